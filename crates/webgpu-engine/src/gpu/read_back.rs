//! Reading back: a ring of buffers that the host can map, so that one can be waited for while the next is filled.

use std::sync::Arc;

use futures_channel::oneshot;

use super::counters::Counters;
use super::error::Faults;
use super::{GpuError, Lost, Recorder};

/// Buffers of one size that are used in turn.
#[derive(Debug)]
pub struct ReadBack {
    buffers: Vec<wgpu::Buffer>,
    bytes: u64,
    next: usize,
}

/// A copy that has been recorded into one of them. It becomes a [`Ticket`] once it is submitted.
#[derive(Debug)]
pub struct Copied {
    buffer: wgpu::Buffer,
    bytes: u64,
}

/// Everything that was submitted before it.
#[derive(Debug)]
pub struct Mark {
    submitted: wgpu::SubmissionIndex,
    done: oneshot::Receiver<()>,
}

/// A copy that is under way.
#[derive(Debug)]
pub struct Ticket {
    buffer: wgpu::Buffer,
    bytes: u64,
    submitted: wgpu::SubmissionIndex,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl ReadBack {
    pub(super) fn new(device: &wgpu::Device, bytes: u64, slots: usize) -> Self {
        let bytes = bytes.max(4).next_multiple_of(4);
        let buffers = (0..slots.max(1)).map(|_| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read back"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        Self {
            buffers: buffers.collect(),
            bytes,
            next: 0,
        }
    }

    /// Records a copy into the buffer whose turn it is. No more tickets may be held than the ring has buffers, less one.
    pub fn copy(
        &mut self,
        recorder: &mut Recorder<'_>,
        from: &wgpu::Buffer,
        range: std::ops::Range<u64>,
    ) -> Result<Copied, GpuError> {
        let bytes = range.end.saturating_sub(range.start);
        let turn = self.next % self.buffers.len().max(1);
        let Some(buffer) = self.buffers.get(turn).filter(|_| bytes <= self.bytes) else {
            return Err(GpuError::Refused(format!(
                "{bytes} bytes do not fit a buffer of {} to read back through",
                self.bytes
            )));
        };
        self.next = turn + 1;
        recorder.copy(from, range.start, buffer, 0, bytes);
        Ok(Copied {
            buffer: buffer.clone(),
            bytes,
        })
    }

    /// Asks for what was submitted.
    pub fn ticket(
        &self,
        copied: Copied,
        submitted: wgpu::SubmissionIndex,
        counters: &Counters,
    ) -> Ticket {
        counters.read_back();
        let (sender, mapped) = oneshot::channel();
        let map = copied.buffer.slice(..copied.bytes);
        map.map_async(wgpu::MapMode::Read, move |result| {
            // Nobody waits any more where the step was given up.
            sender.send(result).ok();
        });
        Ticket {
            buffer: copied.buffer,
            bytes: copied.bytes,
            submitted,
            mapped,
        }
    }
}

impl Ticket {
    pub(super) async fn take(
        &mut self,
        device: &wgpu::Device,
        faults: &Arc<Faults>,
    ) -> Result<Vec<u8>, GpuError> {
        wait(device, faults, Some(self.submitted.clone()))?;
        let lost = || faults.lost().unwrap_or_else(|| Lost("it went away".into()));
        match (&mut self.mapped).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                faults.check()?;
                return Err(GpuError::Refused(error.to_string()));
            }
            Err(oneshot::Canceled) => return Err(lost().into()),
        }
        let bytes = {
            let view = self.buffer.slice(..self.bytes).get_mapped_range();
            let view = view.map_err(|error| GpuError::Refused(error.to_string()))?;
            view.to_vec()
        };
        faults.check()?;
        Ok(bytes)
    }
}

impl Drop for Ticket {
    /// The buffer can be copied into again, whether it was read or nobody waits any more.
    fn drop(&mut self) {
        self.buffer.unmap();
    }
}

impl Mark {
    pub(super) fn new(queue: &wgpu::Queue) -> Self {
        // Writes wait for a submit.
        let submitted = queue.submit([]);
        let (sender, done) = oneshot::channel();
        queue.on_submitted_work_done(move || {
            // Nobody waits any more where the wait was given up.
            sender.send(()).ok();
        });
        Self { submitted, done }
    }

    pub(super) async fn reach(
        self,
        device: &wgpu::Device,
        faults: &Arc<Faults>,
    ) -> Result<(), GpuError> {
        wait(device, faults, Some(self.submitted))?;
        if self.done.await.is_err() {
            faults.check()?;
        }
        faults.check()
    }
}

/// Natively, callbacks come while somebody polls. In a browser this does nothing.
fn wait(
    device: &wgpu::Device,
    faults: &Arc<Faults>,
    submission_index: Option<wgpu::SubmissionIndex>,
) -> Result<(), GpuError> {
    let timeout = None;
    if let Err(error) = device.poll(wgpu::PollType::Wait {
        submission_index,
        timeout,
    }) {
        faults.check()?;
        return Err(GpuError::Refused(error.to_string()));
    }
    Ok(())
}
