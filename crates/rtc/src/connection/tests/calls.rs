//! Single calls.

use super::*;

fn round_trip_100() -> Link {
    Link { one_way: Duration::from_millis(50), ..Link::default() }
}

#[test]
fn two_connections_connect_talk_and_restart_on_virtual_time() {
    let mut world = World::new(round_trip_100(), 1);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected), "{:?}", world.sides[0].told);
    let connected = world.sides.each_ref().map(|side| side.connected_at().unwrap());
    // Offer and answer with a ClientHello, and two round trips of DTLS; the checks go along with its first.
    assert!(connected.iter().all(|at| *at <= Duration::from_millis(360)), "{connected:?}");

    // What comes before its own side of the channel is open, the stack drops.
    let open = |world: &World| world.sides.iter().all(|side| side.connection.channel_open);
    assert!(world.run(Duration::from_secs(1), open));
    assert!(world.sides[0].connection.send_message(world.now, "hello".into()));
    let heard = PeerEvent::Message("hello".into());
    assert!(world.run(Duration::from_secs(1), |w| w.sides[1].state_at(&heard).is_some()));

    // Either side restarts while frames flow: none is late or lost.
    for restarts in [0, 1] {
        let before = world.sides[1].connection.selections;
        for frame in 0..60 {
            if frame == 10 {
                world.offer(restarts, true);
            }
            assert_eq!(world.send_frame(0, frame == 0, 2000), SendOutcome::Sent);
            world.run(Duration::from_millis(33), |_| false);
        }
        assert!(world.sides[1].connection.selections > before, "it did not restart");
    }
    world.run(Duration::from_millis(200), |_| false);
    let received = world.sides[1].received.lock().unwrap();
    assert_eq!(received.iter().filter(|packet| packet.marker).count(), 120);
    assert!(received.iter().all(|packet| !packet.retransmitted));
    drop(received);
    let stats = world.sides[0].connection.stats(world.now);
    assert!(stats.selected_pair().is_some_and(|pair| pair.bytes_sent > 60_000), "{stats:?}");
    assert_eq!(stats.transport.dtls_state, "connected");
}

#[test]
fn connections_come_about_through_every_third_packet_lost() {
    for seed in 0..30 {
        let mut world = World::new(Link { loss_percent: 33, ..round_trip_100() }, seed);
        world.offer(0, false);
        let connected = world.run(Duration::from_secs(8), World::are_connected);
        assert!(connected, "seed {seed}: {:?}", world.sides[0].told);
    }
}

/// The Wi-Fi goes, another network is there.
#[test]
fn media_goes_on_by_another_address_when_one_is_gone() {
    let mut world = World::new(round_trip_100(), 2);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected));
    let (old, new) = (world.sides[0].bases[0], SocketAddr::from(([10, 0, 1, 1], 5000)));
    world.sides[0].bases = vec![new];
    let now = world.now;
    world.sides[0].connection.paths.remove_base(now, old);
    world.sides[0].connection.paths.add_base(now, new, 65_535, None);
    let selected = |world: &World, side: usize| world.sides[side].connection.selected;
    let moved = |world: &World| {
        selected(world, 0).is_some_and(|pair| pair.path == visavis_ice::Path::Udp { base: new })
            && selected(world, 1).is_some_and(|pair| pair.remote == new)
    };
    assert!(world.run(Duration::from_secs(2), moved));
    assert!(world.now - now < Duration::from_millis(700), "{:?}", world.now - now);
}

/// Somebody who knows both addresses and nothing else.
#[test]
fn what_a_stranger_sends_reaches_nothing() {
    let mut world = World::new(round_trip_100(), 3);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected));
    let base = world.sides[0].bases[0];
    let stranger = SocketAddr::from(([10, 0, 0, 9], 4000));
    let now = world.now;
    let connection = &mut world.sides[0].connection;
    let before = connection.stats(now).refused_datagrams;
    for bytes in [&[22, 254, 253, 0][..], &[128, 96, 0, 1], &[0, 1, 0, 0], &[64, 0, 0, 1], &[]] {
        connection.receive(now, Endpoint::Udp(base), stranger, BytesMut::from(bytes));
    }
    assert!(connection.stats(now).refused_datagrams >= before + 4);
    assert_eq!(connection.state, PeerConnectionState::Connected);
    world.run(Duration::from_secs(1), |_| false);
    assert!(world.are_connected());
}

/// DTLS has begun, with the answer, before there is a pair; its flights do not wait for their repetition then.
#[test]
fn a_path_that_is_found_late_is_used_at_once() {
    let link = Link { one_way: Duration::from_millis(20), ..Link::default() };
    let mut world = World::new(link, 4);
    world.put_behind(0, NatKind::EndpointIndependent);
    world.put_behind(1, NatKind::EndpointIndependent);
    world.offer(0, false);
    assert!(world.run(Duration::from_secs(5), World::are_connected));
    let ice = PeerEvent::IceConnectionState(IceConnectionState::Connected);
    for side in &world.sides {
        let (ice, all) = (side.state_at(&ice).unwrap(), side.connected_at().unwrap());
        // Cookie, server's flight and client's flight.
        assert!(all - ice <= Duration::from_millis(125), "ICE {ice:?}, connected {all:?}");
    }
}
