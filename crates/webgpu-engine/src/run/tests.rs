//! Whole models on the adapter that is here, against the CPU's reference.
