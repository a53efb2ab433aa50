//! The thread that hands events to listeners' queues, and calls their wakers, so that no event loop
//! ever does.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};

use super::threads::{OwnThread, Watch};
use crate::engine::event::{EventHub, EventRing};
use crate::engine::sync::{WakeList, block_on};
use crate::locking::lock;
use crate::logging as log;

/// The thread, once somebody listens, and who listens.
pub struct EventThread {
    hub: Arc<EventHub>,
    events_max: usize,
    listeners: Arc<Mutex<Listeners>>,
    thread: Mutex<Thread>,
}

#[derive(Default)]
struct Thread {
    running: Option<OwnThread>,
    /// Nothing more happens, and no thread is started any more.
    stopped: bool,
}

#[derive(Default)]
struct Listeners {
    queues: Vec<Weak<EventRing>>,
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
            // Those that were dropped go with the next event, which may be far.
            listeners.queues.retain(|queue| queue.strong_count() > 0);
            listeners.queues.push(Arc::downgrade(&queue));
            if listeners.ended {
                // The queue is new, so nobody waits at it.
                let _ = queue.end();
            }
        }
        self.start()?;
        Ok(queue)
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        let is_first = self.hub.listen(self.events_max);
        if thread.stopped || thread.running.is_some() && !is_first {
            return Ok(());
        }
        let (hub, listeners) = (self.hub.clone(), self.listeners.clone());
        thread.running = Some(OwnThread::spawn("tidegate-event", move || {
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
        let thread = {
            let mut thread = lock(&self.thread);
            thread.stopped = true;
            thread.running.take()
        };
        match (thread, watch) {
            (Some(thread), Some(watch)) => thread.join(watch),
            (None, _) => end(&self.listeners),
            _ => {}
        }
    }
}

fn hand_out(hub: &EventHub, listeners: &Mutex<Listeners>) {
    while let Some(event) = block_on(|context| hub.poll_next(context)) {
        let mut wakes = WakeList::new();
        lock(listeners).queues.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(event.clone()).into_iter().for_each(|waker| wakes.push(waker));
                true
            }
            None => false,
        });
        wake(wakes);
    }
    end(listeners);
}

/// Nobody hears of anything any more.
fn end(listeners: &Mutex<Listeners>) {
    let mut wakes = WakeList::new();
    {
        let mut listeners = lock(listeners);
        listeners.ended = true;
        for queue in listeners.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.end().into_iter().for_each(|waker| wakes.push(waker));
        }
    }
    wake(wakes);
}

fn wake(mut wakes: WakeList) {
    if wakes.wake_all() > 0 {
        log::error!("the waker of a task that awaits events panicked");
    }
}
