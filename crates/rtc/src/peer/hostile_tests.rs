//! A remote peer that follows the protocol and does too much of it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use crate::loss_tests::Lottery;
use crate::loss_tests::tests::connected;

/// M5 of the list of threats: the stack keeps something of each channel for good, its label too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_peer_that_opens_channel_after_channel_is_not_listened_to() {
    let (a, b) = connected(Lottery(Arc::new(|_, _| false))).await;
    let label = "x".repeat(60_000);
    let channels = async {
        for _ in 0..200 {
            let label = label.clone();
            let opened = a.peer.run("opening a channel", move |connection, _| {
                connection.open_channel(&label);
                Ok(())
            });
            opened.await.unwrap();
        }
    };
    let refuses = async {
        while b.peer.stats().await.refused_datagrams == 0 {
            tokio::task::yield_now().await;
        }
    };
    let ((), refused) =
        tokio::join!(channels, tokio::time::timeout(Duration::from_secs(20), refuses));
    refused.expect("it still listens");
}
