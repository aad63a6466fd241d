//! A queue of alerts for one receiver, and the thread that delivers them in order, each one until it is taken.
#![forbid(unsafe_code)]

use super::alert::Alert;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length of the queue. When it is full, the oldest alerts are dropped.
const WAITING: usize = 1000;
/// Shortest and longest pause between tries; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Why an alert was not delivered.
#[derive(Debug)]
pub enum Undelivered {
    /// The receiver can't be reached, or can't take it now: it is tried again.
    Later(String),
    /// The receiver refuses it: it is dropped.
    Never(String),
}

/// Something that takes alerts.
pub trait Receiver: Send + 'static {
    /// Its name for messages, without secrets.
    fn name(&self) -> String;
    /// Does it want each alert that stands again and again?
    fn wants_reminders(&self) -> bool {
        false
    }
    /// Delivers one alert. So many before it were dropped.
    fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered>;
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Alert>,
    dropped: u64,
    /// How many the receiver has refused.
    refused: u64,
}

/// A queue with its thread.
pub struct Delivery {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    reminds: bool,
}

impl Delivery {
    /// Starts the thread of a receiver.
    pub fn start(receiver: impl Receiver) -> Delivery {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let theirs = shared.clone();
        let reminds = receiver.wants_reminders();
        let started = thread::Builder::new().stack_size(512 << 10).spawn(move || work(&receiver, &theirs, PAUSES));
        if started.is_err() {
            log::warn!("no thread can be started: nothing will be delivered");
        }
        Delivery { shared, reminds }
    }

    /// Adds an alert without waiting.
    pub fn enqueue(&self, alert: Alert) {
        enqueue(&self.shared, alert);
    }

    /// Adds alerts that stand, if the receiver wants to be reminded, and has taken all of before.
    pub fn remind(&self, standing: &[Alert]) {
        if self.reminds && lock(&self.shared.0).waiting.is_empty() {
            standing.iter().for_each(|alert| self.enqueue(alert.clone()));
        }
    }

    /// Waits until all are delivered or refused, at most so long. Returns whether all were delivered.
    pub fn finish(&self, longest: Duration) -> bool {
        let (queue, changed) = &*self.shared;
        let busy = |queue: &mut Queue| !queue.waiting.is_empty();
        let (queue, _) = changed.wait_timeout_while(lock(queue), longest, busy).unwrap_or_else(PoisonError::into_inner);
        queue.waiting.is_empty() && queue.refused == 0
    }
}

fn enqueue(shared: &(Mutex<Queue>, Condvar), alert: Alert) {
    let mut queue = lock(&shared.0);
    if queue.waiting.len() == WAITING {
        // The first one stays, since it may be being delivered.
        queue.waiting.remove(1);
        queue.dropped += 1;
    }
    queue.waiting.push_back(alert);
    shared.1.notify_all();
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(receiver: &impl Receiver, shared: &(Mutex<Queue>, Condvar), pauses: (Duration, Duration)) {
    let mut pause = pauses.0;
    loop {
        let (alert, dropped) = {
            let mut queue = lock(&shared.0);
            loop {
                if let Some(alert) = queue.waiting.front() {
                    break (alert.clone(), queue.dropped);
                }
                queue = shared.1.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let answer = receiver.deliver(&alert, dropped);
        let refused = matches!(answer, Err(Undelivered::Never(_)));
        match answer {
            Err(Undelivered::Later(why)) => {
                if pause == pauses.0 {
                    log::warn!("{} does not take an alert: {why}; trying again", receiver.name());
                }
                thread::sleep(jittered(pause));
                pause = (pause * 2).min(pauses.1);
                continue;
            }
            Err(Undelivered::Never(why)) => log::warn!("{} refuses an alert: {why}; it is dropped", receiver.name()),
            Ok(()) => {}
        }
        pause = pauses.0;
        let mut queue = lock(&shared.0);
        queue.waiting.pop_front();
        queue.dropped = queue.dropped.saturating_sub(dropped);
        queue.refused += u64::from(refused);
        shared.1.notify_all();
    }
}

/// The pause, up to a quarter longer, so that not all instances of `watch` try at the same moment.
fn jittered(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause + pause / 4 * (nanos / 1000 % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// A receiver that fails so many times, and then takes alerts.
    struct Flaky(Mutex<u32>, Sender<(u32, u64)>);

    impl Receiver for Flaky {
        fn name(&self) -> String {
            "a test".into()
        }

        fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered> {
            let mut failures = self.0.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(Undelivered::Later("down".into()));
            }
            if alert.pid == 13 {
                return Err(Undelivered::Never("unlucky".into()));
            }
            self.1.send((alert.pid, dropped)).unwrap();
            Ok(())
        }
    }

    #[test]
    fn each_is_delivered_once_and_in_order_also_after_failures() {
        let (sender, taken) = channel();
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let theirs = shared.clone();
        let pauses = (Duration::from_millis(1), Duration::from_millis(4));
        thread::spawn(move || work(&Flaky(Mutex::new(5), sender), &theirs, pauses));
        for pid in 10..20 {
            enqueue(&shared, Alert::example(pid));
        }
        let all: Vec<u32> = (0..9).map(|_| taken.recv().unwrap().0).collect();
        assert_eq!(all, [10, 11, 12, 14, 15, 16, 17, 18, 19]);
        assert!(taken.recv_timeout(Duration::from_millis(50)).is_err(), "nothing twice");
    }

    #[test]
    fn too_many_are_dropped_from_the_oldest_and_counted() {
        let shared = (Mutex::new(Queue::default()), Condvar::new());
        for pid in 0..WAITING as u32 + 5 {
            enqueue(&shared, Alert::example(pid));
        }
        let queue = lock(&shared.0);
        let kept = |i: usize| queue.waiting[i].pid;
        assert_eq!((queue.waiting.len(), queue.dropped), (WAITING, 5));
        assert_eq!([kept(0), kept(1), kept(WAITING - 1)], [0, 6, WAITING as u32 + 4]);
    }
}
