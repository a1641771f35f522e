//! `molde catalog` against a mirror that is made and signed here, by GnuPG: what is published, and what never is.

mod adding;
mod refusing;
mod renewing;
mod site;
