//! A body whose pieces are made while it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Pieces that wait to be read.
const PIECES_WAITING_MAX: usize = 1;

/// What `produce` sends, then its error if it fails. It runs only while the stream is read, and is dropped with it: a reader
/// that goes away ends it at once.
pub fn driven<E, F>(produce: impl FnOnce(Sender<Bytes>) -> F) -> Driven<E>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    Driven { producer: Some(Box::pin(produce(sender))), pieces }
}

/// See [`driven`].
pub struct Driven<E> {
    /// None: it is done.
    producer: Option<BoxFuture<'static, Result<(), E>>>,
    pieces: Receiver<Bytes>,
}

impl<E> Stream for Driven<E> {
    type Item = Result<Bytes, E>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, E>>> {
        let this = self.get_mut();
        if let Poll::Ready(Some(piece)) = this.pieces.poll_recv(context) {
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(producer) = &mut this.producer
            && let Poll::Ready(done) = producer.as_mut().poll(context)
        {
            this.producer = None;
            if let Err(error) = done {
                return Poll::Ready(Some(Err(error)));
            }
        }
        match this.pieces.poll_recv(context) {
            Poll::Ready(piece) => Poll::Ready(piece.map(Ok)),
            Poll::Pending => Poll::Pending,
        }
    }
}
