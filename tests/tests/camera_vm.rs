//! A real V4L2 camera: in a virtual machine, whose kernel makes one up (`vivid`).
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use visavis_media::Size;
use visavis_media::files::Y4mReader;
use visavis_tests::bars::bars;
use visavis_tests::program::{binary, expect_within};
use visavis_tests::vm::{self, Outcome};

/// The whole run takes 40 s on two idle cores; starting a machine on busy ones takes its time.
const LIMIT: Duration = Duration::from_secs(400);

/// Colour bars of 75 % in BT.601, limited range: white, yellow, cyan, green, magenta, red, blue,
/// black (ITU-R BT.1729).
const BARS: [[i64; 3]; 8] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
    [16, 128, 128],
];

/// One machine serves all tests: booting it is most of the time.
fn machine() -> &'static Outcome {
    static MACHINE: OnceLock<Result<Outcome, String>> = OnceLock::new();
    let run = || {
        let probe = env!("CARGO_BIN_EXE_capture_probe");
        let built = |name| binary(name).map(|path| path.display().to_string());
        let (cli, server) = match (built("visavis-cli"), built("visavis-signaling")) {
            (Ok(cli), Ok(server)) => (cli, server),
            (Err(error), _) | (_, Err(error)) => return Err(format!("{error:#}")),
        };
        let script = format!(
            r#"
probe={probe}
ls /dev/video* > nodes
$probe list > list
$probe camera size 320x180 fps 10 format yuyv frames 20 > yuyv
$probe camera size 640x360 fps 10 format nv12 frames 20 > nv12
$probe camera size 1000x500 fps 5 frames 5 > odd
$probe camera id no-such-camera > unknown
opened() {{ until grep -qE 'open|error' $1; do sleep 0.1; done; }}
$probe camera size 320x180 fps 10 frames 10000 > first &
first=$!
opened first
$probe camera size 640x360 fps 10 frames 5 > second
kill $first
wait $first

{server} --listen 127.0.0.1:8080 > server &
server=$!
until grep -q http:// server || ! kill -0 $server; do sleep 0.1; done
join="{cli} join abc-def-ghj-kmn --server http://127.0.0.1:8080 --json --size 320x180 --fps 10 --max-bitrate 1000000"
$join --camera none --microphone silence --display file:seen.y4m --duration 90s > receiver &
receiver=$!
until grep -q waiting receiver || ! kill -0 $receiver; do sleep 0.1; done
$join --camera device:platform:vivid-000 --microphone silence --duration 90s > sender &
sender=$!
# Long enough for the rate to settle and the picture to be sharp.
until grep -q first-video-frame receiver || ! kill -0 $receiver; do sleep 0.1; done
sleep 8
kill $sender
wait $sender $receiver
kill $server
wait $server

$probe camera size 320x180 fps 10 frames 10000 > again &
$probe watch seconds 60 > watch &
opened again
opened watch
echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind
wait
"#
        );
        vm::run("camera", "n_devs=1", &script, LIMIT).map_err(|e| format!("{e:#}"))
    };
    MACHINE.get_or_init(run).as_ref().unwrap_or_else(|error| panic!("{error}"))
}

fn assert_bars(seen: &Value, tolerance: i64) {
    for (n, expected) in BARS.iter().enumerate() {
        for (channel, expected) in expected.iter().enumerate() {
            let value = seen["bars"][n][channel].as_i64().unwrap();
            assert!(
                (value - expected).abs() <= tolerance,
                "bar {n}, channel {channel}: {value} instead of {expected} in {seen}"
            );
        }
    }
}

#[test]
fn the_one_camera_is_listed_and_its_other_nodes_are_not() {
    let nodes = machine().text("nodes").unwrap();
    assert!(nodes.lines().count() >= 4, "vivid made only {nodes}");
    let list = machine().json("list").unwrap();
    let cameras = list["cameras"].as_array().unwrap();
    assert_eq!(cameras.len(), 1, "{list}");
    assert_eq!(cameras[0]["id"], "platform:vivid-000");
    assert_eq!(cameras[0]["name"], "vivid");
    assert_eq!(cameras[0]["default"], true);
}

#[test]
fn a_sound_card_is_listed_once_each_way() {
    let list = machine().json("list").unwrap();
    for kind in ["microphones", "speakers"] {
        let cards: Vec<_> = list[kind]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["id"].as_str().unwrap().contains("CARD="))
            .collect();
        assert_eq!(cards.len(), 1, "{list}");
        assert_eq!(cards[0]["id"], "alsa:plughw:CARD=Loopback,DEV=0");
        assert!(cards[0]["name"].as_str().unwrap().contains("Loopback"), "{list}");
    }
}

#[test]
fn yuyv_comes_at_the_asked_size_and_rate_with_the_right_colours() {
    let seen = machine().json("yuyv").unwrap();
    assert_eq!(
        (&seen["format"], &seen["width"], &seen["height"], &seen["fps"]),
        (&"yuyv".into(), &320.into(), &180.into(), &10.0.into()),
        "{seen}"
    );
    expect_within(&seen, "interval_ms", 85.0..=125.0).unwrap();
    assert_bars(&seen, 5);
}

#[test]
fn nv12_comes_at_the_asked_size_and_rate_with_the_right_colours() {
    let seen = machine().json("nv12").unwrap();
    assert_eq!(
        (&seen["format"], &seen["width"], &seen["height"], &seen["fps"]),
        (&"nv12".into(), &640.into(), &360.into(), &10.0.into()),
        "{seen}"
    );
    expect_within(&seen, "interval_ms", 85.0..=125.0).unwrap();
    assert_bars(&seen, 5);
}

#[test]
fn a_size_the_camera_has_not_is_replaced_by_the_next_larger() {
    let seen = machine().json("odd").unwrap();
    assert!(seen["width"].as_i64().unwrap() >= 1000, "{seen}");
    assert!(seen["height"].as_i64().unwrap() >= 500, "{seen}");
    assert_bars(&seen, 5);
}

#[test]
fn a_camera_that_is_not_there_and_one_in_use_say_so() {
    let unknown = machine().json("unknown").unwrap();
    assert!(unknown["error"].as_str().unwrap().contains("not connected"), "{unknown}");
    let busy = machine().json("second").unwrap();
    assert!(busy["error"].as_str().unwrap().contains("used by another program"), "{busy}");
}

#[test]
fn a_camera_is_released_at_once() {
    let seen = machine().json("yuyv").unwrap();
    // 200 ms on a real machine; this one is twenty times slower.
    expect_within(&seen, "close_ms", 0.0..=500.0).unwrap();
    let again = machine().text("again").unwrap();
    assert!(again.contains(r#""event":"open""#), "{again}");
}

#[test]
fn the_cameras_picture_arrives_in_a_call() {
    let machine = machine();
    let summary = machine.json("receiver").unwrap();
    expect_within(&summary, "video_received.frames_decoded", 10.0..=1000.0).unwrap();
    let mut reader = Y4mReader::open(&machine.path("seen.y4m")).unwrap();
    assert_eq!(reader.size(), Size::new(320, 180));
    let pictures = std::iter::from_fn(|| reader.next_frame().ok()).take(1000);
    let all: Vec<_> = pictures.map(|picture| bars(&picture)).collect();
    // Lossy coding, and the clock that vivid draws, smear a little; single pictures, as those after a
    // keyframe at a low rate, more.
    let middle = |bar: usize, channel: usize| {
        let later = all[all.len() / 2..].iter();
        let mut values: Vec<_> = later.map(|bars| bars[bar][channel]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let middles: [[_; 3]; 8] =
        std::array::from_fn(|bar| std::array::from_fn(|channel| middle(bar, channel)));
    assert_bars(&json!({ "bars": middles }), 12);
}

#[test]
fn unplugging_ends_the_capture_and_is_noticed() {
    let ended = machine().json("again").unwrap();
    assert!(ended["error"].as_str().unwrap().contains("not connected any more"), "{ended}");
    let seen = machine().json("watch").unwrap();
    assert_eq!(seen["changed"], true);
    assert_eq!(seen["cameras"], 0);
}
