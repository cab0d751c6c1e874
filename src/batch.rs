//! Gathers what is ready to be sent into one batch: a system call to write, or a thread to wake, is
//! the dearest part of a call, and one serves many.

use tokio::sync::mpsc::Receiver;

/// Adds to a batch that has begun what everybody brings who is ready to run, until nobody does or
/// there are `most`. Waits for nobody: where all is quiet it costs one turn.
pub async fn gather<T>(batch: &mut Vec<T>, queue: &mut Receiver<T>, most: usize) {
    let mut before = 0;
    while before < batch.len() && batch.len() < most {
        before = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < most
            && let Ok(item) = queue.try_recv()
        {
            batch.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn whoever_is_ready_is_waited_for_and_nobody_else() {
        let (sender, mut queue) = channel(8);
        let chain = async {
            // Each becomes ready when the one before it has had its turn.
            for item in 1..4 {
                tokio::task::yield_now().await;
                sender.send(item).await.expect("room");
            }
            std::future::pending::<()>().await;
        };
        let mut batch = vec![0];
        tokio::select! {
            biased;
            () = chain => {}
            () = gather(&mut batch, &mut queue, 8) => {}
        }
        assert_eq!(batch, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_full_batch_waits_for_nobody_and_leaves_the_rest() {
        let (sender, mut queue) = channel(8);
        for item in 1..6 {
            sender.send(item).await.expect("room");
        }
        let mut batch = vec![0];
        gather(&mut batch, &mut queue, 4).await;
        assert_eq!(batch, [0, 1, 2, 3]);
        assert_eq!(queue.try_recv().ok(), Some(4));
    }
}
