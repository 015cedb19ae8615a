//! Panics and catches the panic, with the compiler flags of the shipped program.
//!
//! Those flags remove functions from the tables that unwinding needs, so `scripts/build-static`
//! builds and runs this example with each binary.
#![allow(clippy::print_stdout, clippy::panic)]

use std::cell::Cell;
use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;

struct CountDrop(Rc<Cell<u32>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Panics with an index out of range, below frames of the standard library's sort.
fn panic_while_sorting(drops: &Rc<Cell<u32>>) -> Vec<usize> {
    let _outer = CountDrop(drops.clone());
    let short = black_box([1, 2, 3]);
    let mut indices: Vec<usize> = black_box((0..100).rev().collect());
    indices.sort_by_key(|index| {
        let _inner = CountDrop(drops.clone());
        short[*index % 50]
    });
    indices
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let caught = runtime.block_on(async {
        let mut caught = 0;
        for _ in 0..3 {
            let task = tokio::spawn(async {
                let drops = Rc::new(Cell::new(0));
                let sort = std::panic::AssertUnwindSafe(|| panic_while_sorting(&drops));
                let result = std::panic::catch_unwind(sort);
                assert!(result.is_err() && drops.get() >= 2, "{result:?} {drops:?}");
                std::panic::resume_unwind(Box::new("caught"));
            });
            let panic = task.await.err().filter(tokio::task::JoinError::is_panic);
            let payload = panic.map(tokio::task::JoinError::into_panic);
            let text = payload.and_then(|payload| payload.downcast_ref::<&str>().copied());
            caught += u32::from(text == Some("caught"));
        }
        caught
    });
    println!("panics caught: {caught} of 3");
    if caught == 3 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
