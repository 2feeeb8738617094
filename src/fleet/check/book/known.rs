//! What is known of a member by its checks, as its standing changes and requests answer.

use super::Book;
use crate::health::Checked;
use crate::options::MemberId;

impl Book {
    /// The member was ejected at this time. Passes from before do not count.
    pub(in crate::fleet::check) fn note_ejected(&mut self, id: MemberId, ejected_at: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.ejected_at != Some(ejected_at) {
                entry.ejected_at = Some(ejected_at);
                entry.checked = entry.checked.after_ejection();
            }
        }
    }

    /// The member is not ejected. If it was when it was last checked, it came back by other means than its checks (a
    /// mark, the cap, a request's probe), and what they found before does not count. While checks are ignored it is
    /// kept, as it decides when they are believed again.
    pub(in crate::fleet::check) fn note_not_ejected(&mut self, id: MemberId) {
        let is_believed = self.belief.is_believed();
        if let Some(entry) = self.entries.get_mut(&id) {
            let is_back = entry.ejected_at.take().is_some();
            if is_back && is_believed && entry.checked.is_failing() {
                entry.checked = Checked::PASSING;
            }
        }
    }

    /// The member has answered a request, so it is known to be good, unless checks have said otherwise.
    pub(in crate::fleet::check) fn note_answer(&mut self, id: MemberId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.checked = entry.checked.or_passing();
        }
    }

    pub(in crate::fleet::check) fn is_failing(&self, id: MemberId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.checked.is_failing())
    }
}
