//! The thread on which an application hears of events: it hands them to listeners' queues and calls
//! its closures, so that no event loop ever does.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::threads::{OwnThread, Watch};
use crate::engine::event::{Event, EventHub, EventRing};
use crate::engine::sync::block_on;
use crate::logging as log;
use crate::user_code;

/// A closure of the application's that is called with each event.
type Callback = Box<dyn FnMut(&Event) + Send>;

/// The thread, once somebody listens, and who listens.
pub struct EventThread {
    hub: Arc<EventHub>,
    events_max: usize,
    listeners: Arc<Mutex<Listeners>>,
    thread: Mutex<Option<OwnThread>>,
}

#[derive(Default)]
struct Listeners {
    queues: Vec<Weak<EventRing>>,
    /// Those that were added since the thread looked last.
    callbacks: Vec<Callback>,
    ended: bool,
}

impl EventThread {
    /// Without a thread, which starts with the first listener. A listener's queue holds at most so
    /// many events.
    pub fn new(hub: Arc<EventHub>, events_max: usize) -> Self {
        EventThread { hub, events_max, listeners: Arc::default(), thread: Mutex::default() }
    }

    /// A queue that gets every event from now on. It ends when the producer does.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn listen(&self) -> io::Result<Arc<EventRing>> {
        let queue = Arc::new(EventRing::new(self.events_max));
        {
            let mut listeners = lock(&self.listeners);
            listeners.queues.push(Arc::downgrade(&queue));
            if listeners.ended {
                // The queue is new, so nobody waits at it.
                let _ = queue.end();
            }
        }
        self.start()?;
        Ok(queue)
    }

    /// Calls `callback` with every event from now on.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn call(&self, callback: Callback) -> io::Result<()> {
        lock(&self.listeners).callbacks.push(callback);
        self.start()
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if !self.hub.listen(self.events_max) && thread.is_some() || lock(&self.listeners).ended {
            return Ok(());
        }
        let (hub, listeners) = (self.hub.clone(), self.listeners.clone());
        *thread = Some(OwnThread::spawn("tidegate-event", move || {
            let run = AssertUnwindSafe(|| hand_out(&hub, &listeners));
            if catch_unwind(run).is_err() {
                log::error!("the event thread panicked: nobody hears of events any more");
                end(&listeners);
            }
        })?);
        Ok(())
    }

    /// Ends the thread when everything is handed out; with `watch`, returns when it has ended or is
    /// stuck in code of the application's.
    pub fn stop(&self, watch: Option<&mut Watch>) {
        self.hub.end();
        let thread = lock(&self.thread).take();
        match (thread, watch) {
            (Some(thread), Some(watch)) => thread.join(watch),
            (None, _) => end(&self.listeners),
            _ => {}
        }
    }
}

fn hand_out(hub: &EventHub, listeners: &Mutex<Listeners>) {
    let mut callbacks: Vec<Callback> = Vec::new();
    while let Some(event) = block_on(|context| hub.poll_next(context)) {
        let mut wakers = Vec::new();
        {
            let mut listeners = lock(listeners);
            callbacks.append(&mut listeners.callbacks);
            listeners.queues.retain(|queue| match queue.upgrade() {
                Some(queue) => {
                    wakers.extend(queue.push(event.clone()));
                    true
                }
                None => false,
            });
        }
        wake(wakers);
        for callback in &mut callbacks {
            let inside = user_code::enter();
            let called = user_code::call(|| callback(&event));
            drop(inside);
            if called.is_err() {
                log::error!(
                    "a callback for events panicked; it is called with the next event again"
                );
            }
        }
    }
    end(listeners);
}

/// Nobody hears of anything any more.
fn end(listeners: &Mutex<Listeners>) {
    let mut wakers = Vec::new();
    let callbacks = {
        let mut listeners = lock(listeners);
        listeners.ended = true;
        for queue in listeners.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            wakers.extend(queue.end());
        }
        std::mem::take(&mut listeners.callbacks)
    };
    wake(wakers);
    let _inside = user_code::enter();
    // What the closures hold is the application's, and may panic when it is dropped.
    let _ = user_code::call(|| drop(callbacks));
}

fn wake(wakers: Vec<std::task::Waker>) {
    let _inside = user_code::enter();
    for waker in wakers {
        if user_code::call(|| waker.wake()).is_err() {
            log::error!("a waker panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only lists are changed under these locks, each in one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
