//! A value of a database that lies in a chain of pages, read from its beginning as far as it is needed.

/// Most bytes that are read of one value.
const PREFIX_MAX: usize = 2 << 20;

/// What a page holds of the value, and the page after it (zero: none).
pub(super) type Link = (Vec<u8>, u32);

/// A value.
pub(super) struct Blob<'a> {
    known: Vec<u8>,
    /// The page that goes on.
    next: u32,
    /// Bytes of the page chain before the value.
    skip: usize,
    follow: Box<dyn Fn(u32) -> Result<Link, String> + 'a>,
}

impl<'a> Blob<'a> {
    /// Makes a value that begins with `known`, less its first `skip` bytes, and goes on at page `next`.
    pub(super) fn new(
        known: Vec<u8>,
        next: u32,
        skip: usize,
        follow: impl Fn(u32) -> Result<Link, String> + 'a,
    ) -> Self {
        Self { known, next, skip, follow: Box::new(follow) }
    }

    /// Passes over `count` bytes more.
    pub(super) fn skip(&mut self, count: usize) {
        self.skip = self.skip.saturating_add(count);
    }

    /// Returns the first `length` bytes, or all where the value is shorter.
    pub(super) fn prefix(&mut self, length: usize) -> Result<&[u8], String> {
        let end = self.skip.checked_add(length).filter(|end| *end <= PREFIX_MAX);
        let end = end.ok_or_else(|| format!("more than {PREFIX_MAX} bytes of a value are needed"))?;
        while self.known.len() < end && self.next != 0 {
            let (bytes, next) = (self.follow)(self.next)?;
            // Pages without content could make a circle.
            if bytes.is_empty() {
                return Err(format!("page {} of a value is empty", self.next));
            }
            self.known.extend(bytes);
            self.next = next;
        }
        let end = end.min(self.known.len());
        Ok(self.known.get(self.skip..end).unwrap_or_default())
    }
}
