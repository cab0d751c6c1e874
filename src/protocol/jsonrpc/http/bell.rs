//! The waker that hyper gets of a connection over HTTP/1, which nobody rings for the end of a body.
//!
//! hyper asks for more of a body whenever a piece of it is taken, and rings for that: behind the last one,
//! too, where all of the connection's task would run again for nothing.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    /// Whether somebody has rung since this thread holds the bells; `None` where it does not.
    static HELD: Cell<Option<bool>> = const { Cell::new(None) };
}

/// What a connection's task is rung by.
#[derive(Default)]
pub(super) struct Bell(Option<(Waker, Waker)>);

impl Bell {
    /// The waker to hand on instead of that task's own.
    pub(super) fn of(&mut self, cx: &Context<'_>) -> &Waker {
        let task = cx.waker();
        if !self.0.as_ref().is_some_and(|(own, _)| own.will_wake(task)) {
            self.0 = None;
        }
        let made = || (task.clone(), Waker::from(Arc::new(Clapper(task.clone()))));
        &self.0.get_or_insert_with(made).1
    }
}

struct Clapper(Waker);

impl Wake for Clapper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if HELD.get().is_none() {
            self.0.wake_by_ref();
        } else {
            HELD.set(Some(true));
        }
    }
}

/// Whether a bell was rung by what this thread did there, which has woken nobody.
pub(super) fn held<T>(taking: impl FnOnce() -> T) -> (T, bool) {
    let before = HELD.replace(Some(false));
    let taken = taking();
    (taken, HELD.replace(before) == Some(true))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_held_bell_wakes_nobody_and_others_threads_are_not_held() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let woken = || count.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&count));
        let mut bell = Bell::default();
        let waker = bell.of(&Context::from_waker(&task)).clone();
        assert!(bell.of(&Context::from_waker(&task)).will_wake(&waker), "made once");
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        let ((), rang) = held(|| waker.wake_by_ref());
        assert_eq!((rang, woken()), (true, 1));
        let other = waker.clone();
        let (joined, rang) = held(|| std::thread::spawn(move || other.wake()).join());
        joined.expect("no panic");
        assert_eq!((rang, woken()), (false, 2));
        assert!(!held(|| ()).1);
        waker.wake();
        assert_eq!(woken(), 3);
    }
}
