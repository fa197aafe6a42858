//! From the speaker's thread to the microphone's: what is played.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::VoiceProcessor;
use crate::frame::AUDIO_FRAME_SAMPLES;

/// A bounded queue of the blocks that a speaker was given; when it is full the oldest is dropped
/// and counted. Its lock is held for the copy of one block and never while anything is processed,
/// so neither thread waits for the other's work. While nobody listens a push costs one load.
#[derive(Debug)]
pub struct RenderReference {
    listening: AtomicBool,
    queue: Mutex<Queue>,
}

struct Queue {
    blocks: Box<[[f32; AUDIO_FRAME_SAMPLES]; CAPACITY]>,
    first: usize,
    len: usize,
    latency: Duration,
    dropped: u64,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("len", &self.len).field("dropped", &self.dropped).finish()
    }
}

/// Half a second: what the microphone's thread may be late.
const CAPACITY: usize = 50;
/// Blocks that are handed on for each 10 ms from the microphone: a speaker that takes 40 ms at once
/// is followed at once, and after a stall the canceller's own buffer is not overrun.
const AT_ONCE: usize = 4;

impl Default for RenderReference {
    fn default() -> Self {
        Self {
            listening: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                blocks: Box::new([[0.0; AUDIO_FRAME_SAMPLES]; CAPACITY]),
                first: 0,
                len: 0,
                latency: Duration::ZERO,
                dropped: 0,
            }),
        }
    }
}

impl RenderReference {
    /// Whether blocks are wanted. What was queued before is forgotten when they no longer are.
    pub fn set_listening(&self, listening: bool) {
        if self.listening.swap(listening, Ordering::Relaxed) && !listening {
            self.lock().len = 0;
        }
    }

    /// The speaker's thread: 10 ms exactly as they go to the device, and the time until the first
    /// of them is heard.
    pub fn push(&self, block: &[f32; AUDIO_FRAME_SAMPLES], latency: Duration) {
        if !self.listening.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.lock();
        if queue.len == CAPACITY {
            queue.first = (queue.first + 1) % CAPACITY;
            queue.len -= 1;
            queue.dropped += 1;
        }
        let slot = (queue.first + queue.len) % CAPACITY;
        queue.blocks[slot].copy_from_slice(block);
        queue.len += 1;
        queue.latency = latency;
    }

    /// The microphone's thread: hands what was played to `processor`. Call it before each
    /// [`VoiceProcessor::process`]. Returns the speaker's latency; absent while nothing is played.
    pub fn hand_to(&self, processor: &mut VoiceProcessor) -> Option<Duration> {
        let mut block = [0.0; AUDIO_FRAME_SAMPLES];
        let mut latency = None;
        for _ in 0..AT_ONCE {
            {
                let mut queue = self.lock();
                if queue.len == 0 {
                    break;
                }
                block.copy_from_slice(&queue.blocks[queue.first]);
                queue.first = (queue.first + 1) % CAPACITY;
                queue.len -= 1;
                latency = Some(queue.latency);
            }
            processor.render(&block);
        }
        latency
    }

    /// Blocks that were dropped because the microphone's thread was late.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// The copy under the lock cannot panic, so poison says nothing.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::VoiceSettings;
    use super::*;

    #[test]
    fn a_full_queue_drops_the_oldest_and_nobody_listening_costs_nothing() {
        let reference = RenderReference::default();
        let block = |n: usize| [n as f32 / 1000.0; AUDIO_FRAME_SAMPLES];
        reference.push(&block(0), Duration::ZERO);
        assert_eq!(reference.lock().len, 0);
        reference.set_listening(true);
        for n in 0..CAPACITY + 3 {
            reference.push(&block(n), Duration::from_millis(n as u64));
        }
        assert_eq!(reference.dropped(), 3);
        let oldest = {
            let queue = reference.lock();
            queue.blocks[queue.first]
        };
        assert_eq!(oldest, block(3));
        let mut processor = VoiceProcessor::new(VoiceSettings::ON);
        assert_eq!(reference.hand_to(&mut processor), Some(Duration::from_millis(52)));
        assert_eq!(reference.lock().len, CAPACITY - AT_ONCE);
        reference.set_listening(false);
        assert_eq!(reference.hand_to(&mut processor), None);
    }
}
