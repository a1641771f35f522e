//! COWD and seSparse extents, crafted here because no free tool writes them.
