//! Is a panic caught in the shipped program? Its flags leave functions out of the tables by which a
//! panic unwinds, so `scripts/build-static` builds this with the same flags and runs it.
#![allow(clippy::print_stdout, clippy::panic)]

use std::cell::Cell;
use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;

/// Counts that it was dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Panics in the middle of a sort, so below functions of the standard library.
fn sort_badly(dropped: &Rc<Cell<u32>>) -> Vec<usize> {
    let _here = Dropped(dropped.clone());
    let few = black_box([1, 2, 3]);
    let mut places: Vec<usize> = black_box((0..100).rev().collect());
    places.sort_by_key(|place| {
        let _there = Dropped(dropped.clone());
        few[*place % 50]
    });
    places
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let failures = runtime.block_on(async {
        let mut failures = 0;
        for _ in 0..3 {
            let task = tokio::spawn(async {
                let dropped = Rc::new(Cell::new(0));
                let sorting = std::panic::AssertUnwindSafe(|| sort_badly(&dropped));
                let caught = std::panic::catch_unwind(sorting);
                assert!(caught.is_err() && dropped.get() >= 2, "{caught:?} {dropped:?}");
                std::panic::resume_unwind(Box::new("caught"));
            });
            let failure = task.await.err().filter(tokio::task::JoinError::is_panic);
            let text = failure.map(tokio::task::JoinError::into_panic);
            let said = text.and_then(|it| it.downcast_ref::<&str>().copied());
            failures += u32::from(said == Some("caught"));
        }
        failures
    });
    println!("panics caught: {failures} of 3");
    if failures == 3 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
