//! The shell that every interceptor of this crate wears.
//!
//! The stack's interceptor contract needs two queues and a dozen methods even of one that only
//! looks. [`Stage`] asks for what differs; [`Staged`] does the rest. Runs in the driver task.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

/// Where a stage puts what goes on.
#[derive(Default)]
pub(crate) struct Queues {
    /// Towards the application.
    pub(crate) read: VecDeque<TaggedPacket>,
    /// Towards the wire.
    pub(crate) write: VecDeque<TaggedPacket>,
}

impl Queues {
    /// Queues RTCP of our own making towards the wire.
    pub(crate) fn write_rtcp(&mut self, now: Instant, packets: Vec<Box<dyn rtc::rtcp::Packet>>) {
        // An empty compound is reserved by the stack as a carrier of attributes.
        if !packets.is_empty() {
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(packets)),
            });
        }
    }
}

/// One step between wire and application. By default everything passes.
pub(crate) trait Stage: Send + Sync {
    /// A packet on its way in.
    fn on_read(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        queues.read.push_back(packet);
    }

    /// A packet on its way out.
    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        queues.write.push_back(packet);
    }

    /// Time passed; called at least when [`Stage::deadline`] is reached.
    fn on_timeout(&mut self, _now: Instant, _queues: &mut Queues) {}

    /// When [`Stage::on_timeout`] is wanted next.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The first packet of a remote stream is about to be read. Repeated after a renegotiation.
    fn bind_remote(&mut self, _info: &StreamInfo) {}
}

/// Makes an interceptor of a [`Stage`].
pub(crate) struct Staged<S> {
    stage: S,
    queues: Queues,
}

impl<S: Stage> Staged<S> {
    pub(crate) fn new(stage: S) -> Self {
        Self { stage, queues: Queues::default() }
    }
}

impl<S: Stage> Protocol<TaggedPacket, TaggedPacket, ()> for Staged<S> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.stage.on_read(packet, &mut self.queues);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.queues.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.stage.on_write(packet, &mut self.queues);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.queues.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.stage.on_timeout(now, &mut self.queues);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.stage.deadline()
    }
}

impl<S: Stage> Interceptor for Staged<S> {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.stage.bind_remote(info);
    }

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
