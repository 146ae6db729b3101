//! Work that ends early when somebody says so.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// What the work comes to, or nothing once `stop` is over: the work is dropped then, wherever it waits.
pub async fn unless<T>(stop: impl Future, work: impl Future<Output = T>) -> Option<T> {
    let mut stop = pin!(stop);
    let mut work = pin!(work);
    poll_fn(|context| {
        if stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;

    /// Whether it was dropped.
    struct Mark<'m>(&'m Cell<bool>);

    impl Drop for Mark<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    #[test]
    fn work_that_waits_is_dropped_when_it_is_stopped() {
        let (stopped, dropped) = (Cell::new(false), Cell::new(false));
        let stop = poll_fn(|_| {
            if stopped.get() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let work = async {
            let _mark = Mark(&dropped);
            pending::<()>().await;
        };
        let mut both = Box::pin(unless(stop, work));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(both.as_mut().poll(&mut context), Poll::Pending);
        stopped.set(true);
        assert_eq!(both.as_mut().poll(&mut context), Poll::Ready(None));
        drop(both);
        assert!(dropped.get());
    }

    #[test]
    fn what_nobody_stops_comes_to_its_end() {
        let mut both = Box::pin(unless(pending::<()>(), ready(5)));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(both.as_mut().poll(&mut context), Poll::Ready(Some(5)));
    }
}
