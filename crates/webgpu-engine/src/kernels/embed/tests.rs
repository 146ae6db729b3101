//! On the adapter that is here.
