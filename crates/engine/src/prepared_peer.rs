//! Who waits for somebody has a peer connection ready, which has made its offer and gathered candidates
//! (docs/decisions/0013-direct-paths.md). Its task makes it anew when the addresses of this machine change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use visavis_rtc::Peer;
use visavis_signaling_protocol::IceServer;

use crate::call::Closing;
use crate::error::PeerError;
use crate::peer_task::{IdlePeer, PeerParts};
use crate::route_events::RouteEvents;
use crate::run_loop::Internal;

/// Between two questions whether addresses have changed.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(250);
/// So many questions that the system answers with no are followed by a look.
const UNTOLD_QUESTIONS: u32 = 20;
/// After an attempt that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// See the module. Dropping it closes the connection.
pub(crate) struct PreparedPeer {
    ice_servers: Vec<IceServer>,
    taker: oneshot::Sender<oneshot::Sender<IdlePeer>>,
}

impl PreparedPeer {
    /// Its end is waited for with the farewells.
    pub(crate) fn start(call: u32, parts: PeerParts, closing: &Closing) -> Self {
        let (taker, taken) = oneshot::channel();
        let ice_servers = parts.ice_servers.clone();
        closing.spawn(keep_ready(call, parts, taken));
        Self { ice_servers, taker }
    }

    /// Whether it asks these servers for candidates.
    pub(crate) fn is_for(&self, ice_servers: &[IceServer]) -> bool {
        self.ice_servers == ice_servers
    }

    /// The connection, when it is ready; `None` if it failed, or would not be made like this any more.
    pub(crate) async fn take(self) -> Option<IdlePeer> {
        let (to, idle) = oneshot::channel();
        self.taker.send(to).ok()?;
        idle.await.ok()
    }
}

type Taken = oneshot::Receiver<oneshot::Sender<IdlePeer>>;

async fn keep_ready(call: u32, parts: PeerParts, mut taken: Taken) {
    let events = RouteEvents::open().ok();
    loop {
        let idle = match make(parts.clone()).await {
            Ok(idle) => idle,
            Err(error) => {
                let _ = parts.reports.try_send(Internal::NotPrepared(call, error));
                tokio::select! {
                    // Whoever wants it now makes it, and learns why it fails.
                    _ = &mut taken => return,
                    () = tokio::time::sleep(RETRY_INTERVAL) => continue,
                }
            }
        };
        tokio::select! {
            taker = &mut taken => {
                let left = match taker {
                    Ok(to) if idle.is_fresh() => to.send(idle).err(),
                    _ => Some(idle),
                };
                if let Some(idle) = left {
                    idle.close().await;
                }
                return;
            }
            () = stale(idle.peer(), events.as_ref()) => {}
        }
        idle.close().await;
    }
}

async fn make(parts: PeerParts) -> Result<IdlePeer, PeerError> {
    let mut idle = IdlePeer::new(parts).await?;
    idle.offer_ahead().await?;
    Ok(idle)
}

/// Waits until the addresses of this machine are others than those that the connection has.
async fn stale(peer: Arc<Peer>, events: Option<&RouteEvents>) {
    let mut unanswered = 0;
    loop {
        tokio::time::sleep(ADDRESS_INTERVAL).await;
        unanswered += 1;
        // Where the system does not tell, the addresses are listed each time.
        let told = events.is_none_or(|events| events.take().unwrap_or(true));
        if told || unanswered >= UNTOLD_QUESTIONS {
            unanswered = 0;
            if !peer.has_current_addresses() {
                return;
            }
        }
    }
}
