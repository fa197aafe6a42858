//! What people read and what their clicks and keys do, view by view.

use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use visavis_engine::{
    AddressPolicy, Authentication, CallCode, CallEndReason, CallSnapshot, Command, Knock, Phase,
    ProofFailure, SignalingLink, Size, Switch, VideoSlot,
};

use super::snapshots;
use crate::screens::Screens;
use crate::settings::{LargestPicture, Settings};
use crate::theme;
use crate::video::VideoView;
use crate::view::{Action, ServerStatus, View};

struct Fixture {
    screens: Screens,
    snapshot: CallSnapshot,
    settings: Settings,
    server: ServerStatus,
    problem: Option<String>,
    rejoin: Option<CallCode>,
    local: VideoView,
    remote: VideoView,
    actions: Vec<Action>,
}

impl Fixture {
    fn show(&mut self, ui: &mut egui::Ui) {
        let mut view = View {
            snapshot: &self.snapshot,
            settings: &mut self.settings,
            local: &self.local,
            remote: &self.remote,
            server: &self.server,
            server_flag: None,
            problem: self.problem.as_deref(),
            rejoin: self.rejoin.as_ref().map(|code| (&code.room, "https://meet.example")),
            actions: &mut self.actions,
        };
        self.screens.show(ui, &mut view);
    }
}

fn harness_of(snapshot: CallSnapshot, width: f32, height: f32) -> Harness<'static, Fixture> {
    let fixture = Fixture {
        screens: Screens::default(),
        snapshot,
        settings: Settings::default(),
        server: ServerStatus::Running {
            url: "http://127.0.0.1:8080".into(),
            open_to_network: false,
        },
        problem: None,
        rejoin: None,
        local: VideoView::new(VideoSlot::default()),
        remote: VideoView::new(VideoSlot::default()),
        actions: Vec::new(),
    };
    Harness::builder()
        .with_size(egui::vec2(width, height))
        .with_context_setup(theme::install)
        .with_max_steps(16)
        .build_ui_state(|ui, fixture: &mut Fixture| fixture.show(ui), fixture)
}

fn harness(snapshot: CallSnapshot) -> Harness<'static, Fixture> {
    harness_of(snapshot, 1296.0, 816.0)
}

fn code(text: &str) -> CallCode {
    text.parse().unwrap()
}

/// Steps that let transitions end; views that wake themselves never come to rest.
fn settle(h: &mut Harness<'_, Fixture>) {
    h.run_steps(4);
}

fn joined(h: &Harness<'_, Fixture>) -> Vec<(String, Option<String>)> {
    let joins = h.state().actions.iter().filter_map(|a| match a {
        Action::Join { code, server } => Some((code.to_string(), server.clone())),
        _ => None,
    });
    joins.collect()
}

#[test]
fn typed_code_gets_its_dashes_and_enter_joins() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    for c in ["K", "FWM", "trzp", "qdxy"] {
        h.get_by_label("Code or link").type_text(c);
        settle(&mut h);
    }
    assert_eq!(h.state().screens.lobby.entry, "kfw-mtr-zpq-dxy");
    h.key_press(Key::Enter);
    settle(&mut h);
    assert_eq!(joined(&h), [("kfw-mtr-zpq-dxy".to_owned(), None)]);
}

#[test]
fn pasted_link_joins_on_its_server() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Code or link").type_text("https://meet.example/r/abc-def#ghj-kmn");
    settle(&mut h);
    h.get_by_label("Join").click();
    settle(&mut h);
    let server = Some("https://meet.example".to_owned());
    assert_eq!(joined(&h), [("abc-def-ghj-kmn".to_owned(), server)]);
}

#[test]
fn unfinished_code_is_explained_and_not_joined() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Code or link").type_text("abcdefgh");
    settle(&mut h);
    h.get_by_label("Join").click();
    settle(&mut h);
    assert!(joined(&h).is_empty());
    h.get_by_label_contains("4 letters to go");
}

#[test]
fn addresses_are_hidden_by_choice_and_a_server_without_relay_is_said() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label_contains("direct calls, no relay").click();
    settle(&mut h);
    h.get_by_label_contains("Hide those inside your network").click();
    settle(&mut h);
    assert_eq!(h.state().settings.addresses, AddressPolicy::HideLocal);
    h.get_by_label_contains("direct calls, no relay").click();
    settle(&mut h);
    h.get_by_label_contains("Hide them all").click();
    settle(&mut h);
    assert_eq!(h.state().settings.addresses, AddressPolicy::RelayOnly);
    h.get_by_label_contains("this computer has no relay");
}

#[test]
fn new_room_and_recent_rooms_are_one_click() {
    let mut h = harness(snapshots::lobby());
    h.state_mut().settings.recent_rooms = vec![code("abc-def-ghj-kmn")];
    settle(&mut h);
    h.get_by_label("New room").click();
    settle(&mut h);
    h.get_by_label("Join abc-def-ghj-kmn again").click();
    settle(&mut h);
    let rooms = joined(&h);
    assert_eq!(rooms.len(), 2);
    assert_eq!(rooms[1], ("abc-def-ghj-kmn".to_owned(), None));
}

#[test]
fn letters_typed_into_the_name_are_no_shortcuts() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Your name").focus();
    settle(&mut h);
    h.get_by_label("Your name").type_text("Mavif");
    h.key_press(Key::M);
    settle(&mut h);
    assert_eq!(h.state().settings.name, "Mavif");
    assert!(h.state().actions.is_empty());
    h.key_press_modifiers(Modifiers::COMMAND, Key::D);
    settle(&mut h);
    assert!(matches!(h.state().actions[..], [Action::SetMicrophone(false)]));
}

#[test]
fn lobby_without_devices_says_so_and_still_joins() {
    let mut s = CallSnapshot::default();
    s.local.camera_problem = Some("No camera was found.".into());
    s.local.microphone_problem = Some("No microphone was found.".into());
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label("No camera was found.");
    h.get_by_label_contains("You can still call");
    h.get_by_label("Camera: No camera found");
    h.get_by_label("Microphone: No microphone found");
    h.get_by_label("New room").click();
    settle(&mut h);
    assert_eq!(joined(&h).len(), 1);
}

#[test]
fn picked_device_goes_to_the_engine_and_into_the_settings() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Microphone: Built-in Microphone").click();
    settle(&mut h);
    h.get_by_label("USB Headset").click();
    settle(&mut h);
    let picked = h.state().settings.microphone.clone();
    assert_eq!(picked.map(|d| d.0).as_deref(), Some("usb"));
    let sent = |a: &Action| matches!(a, Action::Send(Command::SetMicrophone(_)));
    assert!(h.state().actions.iter().any(sent));
}

#[test]
fn the_largest_picture_is_chosen_in_the_cameras_menu() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    assert_eq!(h.state().settings.largest_picture, LargestPicture::FullHd);
    h.get_by(|node| node.label().is_some_and(|label| label.starts_with("Camera: "))).click();
    settle(&mut h);
    h.get_by_label("720p").click();
    settle(&mut h);
    assert_eq!(h.state().settings.largest_picture, LargestPicture::Hd);
    let sent = |a: &Action| matches!(a, Action::Send(Command::SetMaxSize(size)) if *size == Size::new(1280, 720));
    assert!(h.state().actions.iter().any(sent));
}

#[test]
fn voice_processing_is_switched_in_the_microphones_menu_which_stays_open() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Microphone: Built-in Microphone").click();
    settle(&mut h);
    h.get_by_label("Noise suppression").click();
    settle(&mut h);
    h.get_by_label("Automatic gain").click();
    settle(&mut h);
    let s = &h.state().settings;
    assert!(s.echo_cancellation && s.high_pass && !s.noise_suppression && !s.automatic_gain);
    let last = h.state().actions.iter().rev().find_map(|a| match a {
        Action::Send(Command::SetVoiceProcessing(wanted)) => Some(*wanted),
        _ => None,
    });
    assert_eq!(last, Some(s.voice_processing()));
    assert_eq!(last.map(|v| v.noise_suppression), Some(Switch::Off));
}

#[test]
fn music_is_switched_in_the_microphones_menu_and_nothing_else_with_it() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Microphone: Built-in Microphone").click();
    settle(&mut h);
    h.get_by_label("Music").click();
    settle(&mut h);
    assert!(h.state().settings.music && h.state().settings.echo_cancellation);
    let last = h.state().actions.iter().rev().find_map(|a| match a {
        Action::Send(Command::SetVoiceProcessing(wanted)) => Some(*wanted),
        _ => None,
    });
    assert!(last.is_some_and(|wanted| wanted.music));
}

#[test]
fn who_talks_while_muted_is_told_beside_the_microphone() {
    let mut h = harness(snapshots::connected());
    h.state_mut().settings.microphone_on = false;
    settle(&mut h);
    assert!(h.query_by_label_contains("You are muted").is_none());
    h.state_mut().snapshot.local.speaking_while_muted = true;
    settle(&mut h);
    let hint = h.get_by_label_contains("You are muted").rect();
    let button = h.get_by_label_contains("Unmute the microphone").rect();
    assert!(hint.bottom() <= button.top() && hint.x_range().contains(button.center().x));
}

#[test]
fn narrow_lobby_stacks_and_keeps_every_control_inside() {
    let mut h = harness_of(snapshots::lobby(), 700.0, 1000.0);
    settle(&mut h);
    let preview = h.get_by_label("Camera: Integrated Camera").rect();
    let join = h.get_by_label("Join").rect();
    assert!(join.top() > preview.bottom(), "the columns stack");
    for label in ["Your name", "Code or link", "Join", "New room", "Speaker: Headphones"] {
        let rect = h.get_by_label(label).rect();
        assert!(rect.left() >= 0.0 && rect.right() <= 700.0, "{label}: {rect:?}");
    }
}

#[test]
fn waiting_shows_the_code_and_copies_the_link() {
    let mut h = harness(snapshots::waiting());
    settle(&mut h);
    h.get_by_label("abc-def-ghj-kmn");
    h.get_by_label("QR code of the room's link");
    h.get_by_label("Copy link").click();
    settle(&mut h);
    let link = "http://192.168.1.14:8080/r/abc-def#ghj-kmn";
    assert!(h.state().actions.iter().any(|a| matches!(a, Action::Copy(text, _) if text == link)));
}

#[test]
fn link_that_works_only_here_is_said() {
    let mut s = snapshots::waiting();
    s.room_link = Some("http://127.0.0.1:8080/r/abc-def#ghj-kmn".into());
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label_contains("works on this computer only");
}

#[test]
fn connecting_names_what_is_done_and_what_is_next() {
    let mut s = snapshots::connected();
    s.phase = Phase::Connecting;
    s.states.dtls = Some(visavis_engine::DtlsState::Connecting);
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label("Ada is here. Connecting…");
    h.get_by_label("Encryption keys exchanged …");
}

#[test]
fn call_controls_do_what_they_say() {
    let mut h = harness(snapshots::connected());
    settle(&mut h);
    h.get_by_label("Good · direct · 18 ms");
    h.get_by_label_contains("Proven by the code");
    h.get_by_label("04:12");
    h.get_by_label("Ada is muted");
    for label in [
        "Mute the microphone (M)",
        "Switch the camera off (V)",
        "Copy the room's link (L)",
        "Open the debug panel (I)",
        "Leave the call",
    ] {
        h.get_by_label(label).click();
        settle(&mut h);
    }
    let a = &h.state().actions;
    assert!(
        matches!(
            a[..],
            [
                Action::SetMicrophone(false),
                Action::SetCamera(false),
                Action::Copy(..),
                Action::ToggleDebug,
                Action::Leave
            ]
        ),
        "{a:?}"
    );
}

#[test]
fn the_first_half_of_a_code_is_joined_and_said_to_prove_nothing() {
    let mut h = harness(snapshots::lobby());
    settle(&mut h);
    h.get_by_label("Code or link").type_text("abcdef");
    settle(&mut h);
    h.get_by_label_contains("not proven");
    h.get_by_label("Join").click();
    settle(&mut h);
    assert_eq!(joined(&h), [("abc-def".to_owned(), None)]);
}

#[test]
fn the_proof_is_a_word_at_the_lock_and_a_card_under_it() {
    let mut h = harness(snapshots::connected());
    settle(&mut h);
    assert!(h.query_by_label_contains("In order").is_none());
    h.get_by_label_contains("Proven by the code: who").click();
    settle(&mut h);
    h.get_by_label("Encrypted, proven by the code");
    h.get_by_label("In order: dog, butterfly, cactus, grapes, lamp, rocket, ball");
    h.get_by_label_contains("Proven by the code: who").click();
    settle(&mut h);
    assert!(h.query_by_label_contains("In order").is_none());
    // Escape closes it, and so does what has to be answered in its place.
    for closed_by_escape in [true, false] {
        h.get_by_label_contains("Proven by the code: who").click();
        settle(&mut h);
        h.get_by_label_contains("In order");
        if closed_by_escape {
            h.key_press(Key::Escape);
        } else {
            h.state_mut().snapshot.knocks = vec![knock("c", Some("Edsger"))];
        }
        settle(&mut h);
        assert!(h.query_by_label_contains("In order").is_none());
    }
}

#[test]
fn what_a_page_proves_is_worth_what_its_server_is_worth() {
    let mut s = snapshots::connected();
    let proven = s.authentication.unwrap();
    s.authentication = Some(Authentication { remote_is_page: true, ..proven });
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label_contains("Proven, if you trust meet.example's page");
}

#[test]
fn an_unproven_call_says_so_at_a_glance() {
    let mut s = snapshots::connected();
    let proven = s.authentication.unwrap();
    s.authentication = Some(Authentication { is_proven: false, ..proven });
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label_contains("Not proven: who").click();
    settle(&mut h);
    h.get_by_label("Encrypted, not proven");
    h.get_by_label_contains("Read these to each other");
}

#[test]
fn a_failed_proof_is_a_warning_with_one_way_out() {
    for (failure, way_out) in [(ProofFailure::Mismatch, "Back"), (ProofFailure::Spent, "New room")]
    {
        let mut s = snapshots::connected();
        s.phase = Phase::Ended(CallEndReason::NotProven(failure));
        let mut h = harness(s);
        settle(&mut h);
        assert!(h.query_by_label("Call again").is_none());
        h.get_by_label(way_out).click();
        settle(&mut h);
        assert!(matches!(h.state().actions[0], Action::BackToLobby));
    }
}

#[test]
fn the_room_is_locked_by_a_control_or_a_key_and_says_so() {
    let sent = |h: &Harness<'_, Fixture>| {
        h.state()
            .actions
            .iter()
            .filter_map(|a| match a {
                Action::Send(Command::SetRoomLocked(locked)) => Some(*locked),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let mut h = harness(snapshots::connected());
    settle(&mut h);
    assert!(h.query_by_label("Room locked").is_none());
    h.get_by_label_contains("Lock the room").click();
    settle(&mut h);
    h.state_mut().snapshot.room_locked = true;
    settle(&mut h);
    h.get_by_label("Room locked");
    h.get_by_label("Unlock the room (K)");
    h.key_press(Key::K);
    settle(&mut h);
    assert_eq!(sent(&h), [true, false]);
    // Alone there is nobody to lock in, but a locked room can be opened.
    let mut h = harness(snapshots::waiting());
    settle(&mut h);
    assert!(h.query_by_label_contains("Lock the room").is_none());
    h.key_press(Key::K);
    settle(&mut h);
    assert!(sent(&h).is_empty());
    h.state_mut().snapshot.room_locked = true;
    settle(&mut h);
    h.get_by_label_contains("The room is locked.");
    h.key_press(Key::K);
    settle(&mut h);
    assert_eq!(sent(&h), [false]);
}

#[test]
fn controls_of_the_smallest_window_are_inside_and_apart() {
    let mut h = harness_of(snapshots::connected(), 420.0, 480.0);
    settle(&mut h);
    let labels = [
        "Mute the microphone (M)",
        "Switch the camera off (V)",
        "Copy the room's link (L)",
        "Lock the room, so that nobody else can enter (K)",
        "Open the debug panel (I)",
        "Leave the call",
    ];
    let rects: Vec<_> = labels.iter().map(|label| h.get_by_label(label).rect()).collect();
    assert!(rects[0].left() >= 0.0 && rects[5].right() <= 420.0, "{rects:?}");
    assert!(rects.windows(2).all(|pair| pair[0].right() <= pair[1].left()), "{rects:?}");
}

#[test]
fn keys_of_a_call() {
    let mut h = harness(snapshots::connected());
    settle(&mut h);
    for key in [Key::M, Key::V, Key::I, Key::F, Key::L] {
        h.key_press(key);
        settle(&mut h);
    }
    h.key_press_modifiers(Modifiers::COMMAND, Key::E);
    settle(&mut h);
    let a = &h.state().actions;
    assert!(
        matches!(
            a[..],
            [
                Action::SetMicrophone(false),
                Action::SetCamera(false),
                Action::ToggleDebug,
                Action::ToggleFullScreen,
                Action::Copy(..),
                Action::SetCamera(false)
            ]
        ),
        "{a:?}"
    );
}

#[test]
fn held_space_opens_a_muted_microphone_until_it_is_let_go() {
    let mut h = harness(snapshots::connected());
    h.state_mut().settings.microphone_on = false;
    settle(&mut h);
    h.get_by_label("Microphone off");
    h.key_down(Key::Space);
    settle(&mut h);
    h.key_up(Key::Space);
    settle(&mut h);
    let a = &h.state().actions;
    assert!(
        matches!(
            a[..],
            [
                Action::Send(Command::SetMicrophoneEnabled(true)),
                Action::Send(Command::SetMicrophoneEnabled(false))
            ]
        ),
        "{a:?}"
    );
}

#[test]
fn controls_fade_but_states_that_matter_stay() {
    let mut h = harness(snapshots::connected());
    h.state_mut().settings.microphone_on = false;
    h.run_steps(30);
    // Labels remain for screen readers; what is drawn is checked by the transition's value.
    let shown = h.ctx.animate_bool(egui::Id::unique("call controls"), false);
    assert_eq!(shown, 0.0, "the controls have faded");
    h.get_by_label("Microphone off");
    h.get_by_label("Ada is muted");
    h.hover_at(egui::pos2(300.0, 300.0));
    h.run_steps(3);
    let shown = h.ctx.animate_bool(egui::Id::unique("call controls"), true);
    assert_eq!(shown, 1.0, "movement brings them back");
}

#[test]
fn reconnecting_is_said_over_the_picture() {
    let mut s = snapshots::connected();
    s.phase = Phase::Reconnecting;
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label_contains("Reconnecting…");
    let mut s = snapshots::connected();
    s.states.signaling_link = SignalingLink::Reconnecting;
    h.state_mut().snapshot = s;
    settle(&mut h);
    h.get_by_label_contains("Sound and picture go on");
}

fn admitted(h: &Harness<'_, Fixture>) -> Vec<(String, bool)> {
    let answers = h.state().actions.iter().filter_map(|a| match a {
        Action::Send(Command::Admit { peer_id, admitted }) => {
            Some((peer_id.as_str().to_owned(), *admitted))
        }
        _ => None,
    });
    answers.collect()
}

fn knock(seat: &str, name: Option<&str>) -> Knock {
    Knock { peer_id: seat.to_owned().try_into().unwrap(), display_name: name.map(str::to_owned) }
}

#[test]
fn who_wants_to_come_in_is_shown_and_answered_by_click_or_key() {
    for (width, height) in [(1296.0, 816.0), (420.0, 480.0)] {
        let mut s = snapshots::connected();
        s.phase = Phase::Reconnecting;
        s.knocks = vec![knock("c", Some("Edsger")), knock("d", None)];
        let mut h = harness_of(s, width, height);
        settle(&mut h);
        let card = h.get_by_label_contains("Edsger wants to come in");
        assert!(h.query_all_by_label_contains("One more person").next().is_some());
        let window = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(width, height));
        assert!(window.contains_rect(card.rect()), "{:?}", card.rect());
        for said in h.query_all_by_label_contains("Reconnecting") {
            let banner = said.rect();
            assert!(!card.rect().intersects(banner), "{:?} {banner:?}", card.rect());
        }
        h.get_by_label("Let in").click();
        settle(&mut h);
        assert_eq!(admitted(&h), [("c".to_owned(), true)]);
        // The same by keyboard.
        h.get_by_label("Refuse").focus();
        settle(&mut h);
        h.key_press(Key::Space);
        settle(&mut h);
        assert_eq!(admitted(&h)[1..], [("c".to_owned(), false)]);
    }
}

#[test]
fn who_has_to_be_let_in_waits_and_may_give_up() {
    let mut h = harness(CallSnapshot { phase: Phase::Knocking, ..snapshots::waiting() });
    settle(&mut h);
    h.get_by_label("Waiting to be let in…");
    h.get_by_label("Give up").click();
    settle(&mut h);
    assert!(h.state().actions.iter().any(|a| matches!(a, Action::Leave)));
}

#[test]
fn a_call_that_did_not_end_properly_is_offered_again() {
    let mut h = harness(snapshots::lobby());
    let kept = code("abc-def-ghj-kmn");
    h.state_mut().settings.remember_room(&kept);
    h.state_mut().rejoin = Some(kept);
    settle(&mut h);
    h.get_by_label("Rejoin").click();
    settle(&mut h);
    let server = Some("https://meet.example".to_owned());
    assert_eq!(joined(&h), [("abc-def-ghj-kmn".to_owned(), server)]);
}

#[test]
fn ended_says_why_and_how_long_and_offers_the_next_step() {
    let mut s = snapshots::connected();
    s.phase = Phase::Ended(CallEndReason::RemoteHangup);
    let mut h = harness(s);
    settle(&mut h);
    h.get_by_label("The other side hung up.");
    h.get_by_label("It lasted 04:12.");
    h.get_by_label("Call again").click();
    settle(&mut h);
    h.get_by_label("Back").click();
    settle(&mut h);
    assert!(matches!(h.state().actions[..], [Action::JoinAgain, Action::BackToLobby]));
}

#[test]
fn debug_panel_shows_what_the_snapshot_holds() {
    let mut h = harness_of(snapshots::connected(), 1296.0, 1600.0);
    h.state_mut().screens.debug.open = true;
    settle(&mut h);
    for label in [
        "Good: direct over UDP, 18 ms there and back.",
        "ICE checks: 44 ms",
        "host udp 192.168.1.14:50331",
        "DTLS 1.2",
        "AES-128-GCM",
        "H264 1280×720",
        "29.8 fps",
    ] {
        assert!(h.query_all_by_label(label).next().is_some(), "overview lacks {label:?}");
    }
    h.get_by_label_contains("174 MS FROM");
    h.get_by_role_and_label(egui::Role::Tab, "ICE").click();
    settle(&mut h);
    for label in ["nominated", "14/14", "198.51.100.20:61002", "2130706175", "81.0 MB"] {
        assert!(h.query_all_by_label(label).next().is_some(), "ICE lacks {label:?}");
    }
    h.get_by_role_and_label(egui::Role::Tab, "Media").click();
    settle(&mut h);
    for label in ["18 / 27 / 64 ms", "5.2 ms", "440 Hz", "12 packets", "-24 dBFS", "27.5 dB"] {
        assert!(h.query_all_by_label(label).next().is_some(), "media lacks {label:?}");
    }
    h.get_by_role_and_label(egui::Role::Tab, "Log").click();
    settle(&mut h);
    h.get_by_label("event number 23");
}

#[test]
fn debug_panel_says_whether_the_room_is_locked() {
    for (room_locked, words) in [(false, "open to others"), (true, "locked")] {
        let snapshot = CallSnapshot { room_locked, ..snapshots::connected() };
        let mut h = harness_of(snapshot, 1296.0, 1600.0);
        h.state_mut().screens.debug.open = true;
        settle(&mut h);
        let found = h.query_all_by_label(words).count();
        assert_eq!(found, 1, "{words:?}");
    }
}

#[test]
fn debug_panel_leaves_the_picture_its_room_where_the_window_is_wide() {
    let mut h = harness(snapshots::connected());
    h.state_mut().screens.debug.open = true;
    settle(&mut h);
    let panel = h.get_by_label("Overview").rect().left();
    let leave = h.get_by_label("Leave the call").rect();
    assert!(leave.right() < panel, "controls are beside the panel");
}

#[test]
fn empty_snapshot_panics_nowhere() {
    for phase in [
        Phase::Idle,
        Phase::Joining,
        Phase::Knocking,
        Phase::Waiting,
        Phase::Connecting,
        Phase::Connected,
        Phase::Reconnecting,
        Phase::Ended(CallEndReason::ConnectionFailed),
    ] {
        for (width, height) in [(420.0, 480.0), (1296.0, 816.0)] {
            let mut h = harness_of(
                CallSnapshot { phase: phase.clone(), ..Default::default() },
                width,
                height,
            );
            h.state_mut().screens.debug.open = true;
            settle(&mut h);
        }
    }
}
