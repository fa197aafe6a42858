//! Reuse of picture buffers. Owned by one thread; the pictures it hands out go anywhere.

use std::sync::Arc;

use crate::frame::{I420Buffer, Size};

/// Hands out picture buffers and takes them back when nobody else holds them any more.
///
/// A 720p picture is 1.4 MB: fresh memory for each would cost a page fault every 4 KiB.
#[derive(Debug, Default)]
pub struct BufferPool {
    buffers: Vec<Arc<I420Buffer>>,
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A picture of `size`, filled by `fill`. Its content before is that of some earlier picture,
    /// so `fill` must write every pixel.
    ///
    /// # Errors
    /// Whatever `fill` fails with.
    pub fn fill<E>(
        &mut self,
        size: Size,
        fill: impl FnOnce(&mut I420Buffer) -> Result<(), E>,
    ) -> Result<Arc<I420Buffer>, E> {
        self.buffers.retain(|b| b.size() == size);
        let free = self.buffers.iter_mut().position(|b| Arc::get_mut(b).is_some());
        let mut buffer = match free {
            Some(index) => self.buffers.swap_remove(index),
            None => Arc::new(I420Buffer::black(size)),
        };
        let result = match Arc::get_mut(&mut buffer) {
            Some(unique) => fill(unique),
            // Not reached: the buffer is new or was found free, and this thread alone can clone it.
            None => {
                buffer = Arc::new(I420Buffer::black(size));
                Arc::get_mut(&mut buffer).map_or(Ok(()), fill)
            }
        };
        if self.buffers.len() < MAX_BUFFERS {
            self.buffers.push(Arc::clone(&buffer));
        }
        result.map(|()| buffer)
    }
}

/// Pictures under way at once: latest-frame slot, the one shown, the one being made, one spare.
const MAX_BUFFERS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returned_pictures_are_reused_and_held_ones_are_not() {
        let mut pool = BufferPool::new();
        let size = Size::new(64, 48);
        let mut fill = |luma: u8| {
            pool.fill::<()>(size, |b| {
                b.planes_mut()[0].fill(luma);
                Ok(())
            })
            .ok()
        };
        let first = fill(1);
        let at = first.as_ref().map(Arc::as_ptr);
        let second = fill(2);
        assert_ne!(at, second.as_ref().map(Arc::as_ptr));
        assert_eq!(first.as_ref().map(|b| b.planes()[0][0]), Some(1));
        drop(first);
        let third = fill(3);
        assert_eq!(at, third.as_ref().map(Arc::as_ptr));
    }
}
