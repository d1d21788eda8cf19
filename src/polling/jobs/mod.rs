//! What people ask for: a job's definition, its schedule, and the stream that it feeds.

mod asked;
mod definition;
mod destination;
mod members;
mod pointer;
mod schedule;
mod short_form;
mod view;

pub use asked::{AskedJob, ChangeError, new_job_id};
pub(crate) use definition::set_parameter;
pub use definition::{
    Definition, Method, OnChange, PAGES_MAX, Pagination, Since, SinceFormat, SinceValue,
};
pub use destination::{DestinationError, destination, stream_of};
pub use members::{Invalid, Members};
pub use pointer::Pointer;
pub(crate) use pointer::text_of;
pub use schedule::Schedule;
pub use view::{JobView, ShortJobView};
