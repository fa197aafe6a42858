//! What the remote side and the signaling path may send: nothing of it may panic.
#![allow(clippy::unwrap_used)]

use crate::common::{negotiate, side};
use proptest::prelude::*;
use visavis_rtc::{Candidate, Description, RtcError, SdpKind};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_an_error_and_the_connection_still_works() {
    let (a, b) = (side().await, side().await);
    for sdp in ["", "v=0", "hello", "v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\nm=video"] {
        let description = Description { kind: SdpKind::Offer, sdp: sdp.into() };
        let result = b.peer.set_remote(description).await;
        assert!(result.is_err() || sdp.is_empty(), "{sdp:?}");
        let _ = b.peer.rollback().await;
    }
    let huge = Description { kind: SdpKind::Offer, sdp: "v=0\r\n".repeat(100_000) };
    assert!(matches!(b.peer.set_remote(huge).await, Err(RtcError::InvalidDescription(_))));
    negotiate(&a, &b, false).await;
    tokio::join!(a.until_connected(&b), b.until_connected(&a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_candidates_wait_and_are_limited() {
    let a = side().await;
    let candidate = |n: usize| Candidate {
        candidate: format!("candidate:{n} 1 udp 2122260223 192.0.2.1 {} typ host", 1000 + n),
        ..Default::default()
    };
    let mut refused = 0;
    for n in 0..200 {
        match a.peer.add_candidate(candidate(n)).await {
            Ok(()) => {}
            Err(RtcError::TooManyCandidates) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 0);
    a.peer.add_candidate(crate::common::end_of_candidates()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_of_an_old_generation_are_ignored_and_bad_ones_refused() {
    let (a, b) = (side().await, side().await);
    negotiate(&a, &b, false).await;
    let line = "candidate:1 1 udp 2122260223 192.0.2.77 4000 typ host";
    let old = Candidate {
        candidate: line.into(),
        username_fragment: Some("neverheardof".into()),
        ..Default::default()
    };
    b.peer.add_candidate(old).await.unwrap();
    let stats = b.peer.stats().await;
    assert!(stats.remote_candidates.iter().all(|c| c.address != "192.0.2.77"));
    let bad = Candidate { candidate: "candidate:oops".into(), ..Default::default() };
    assert!(matches!(b.peer.add_candidate(bad).await, Err(RtcError::InvalidCandidate(_))));
}

#[test]
fn mutated_offers_and_answers_do_not_panic() {
    let runtime = runtime();
    let offer =
        runtime.block_on(async { side().await.peer.create_offer(false).await.unwrap().sdp });
    let lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..Default::default()
    });
    // Lines swapped, dropped, doubled, cut short, with numbers replaced: near enough to SDP to get
    // far into the stack.
    let edits =
        prop::collection::vec((0usize..5, 0..lines.len(), 0..lines.len(), 0usize..40), 1..6);
    runner
        .run(&edits, |edits| {
            let mut lines = lines.clone();
            for (kind, i, j, cut) in edits {
                let (i, j) = (i % lines.len(), j % lines.len());
                match kind {
                    0 => lines.swap(i, j),
                    1 if lines.len() > 1 => {
                        lines.remove(i);
                    }
                    2 => {
                        let line = lines[i].clone();
                        lines.insert(j, line);
                    }
                    3 => {
                        let at = cut.min(lines[i].len());
                        lines[i].truncate(at);
                    }
                    _ => lines[i] = lines[i].replace(|c: char| c.is_ascii_digit(), "9"),
                }
            }
            let sdp = lines.join("\r\n") + "\r\n";
            runtime.block_on(async {
                let b = side().await;
                let description = Description { kind: SdpKind::Offer, sdp };
                let mut result = b.peer.set_remote(description).await;
                if result.is_ok() {
                    result = b.peer.create_answer().await.map(drop);
                }
                assert!(!matches!(result, Err(RtcError::Broken { .. })), "{result:?}");
                b.peer.close().await;
            });
            Ok(())
        })
        .unwrap();
}
