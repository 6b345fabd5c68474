//! Every integration test, linked once. A module per story; `tidy` checks that no file lies here unrun.

mod readme;
mod tidy;
