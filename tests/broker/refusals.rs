//! One test per refusal: first the honest request, then one thing changed.

use crate::support::*;

#[test]
fn the_honest_request_is_granted() {
    shared(|world| async move {
        let reply = world.request().send(world).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
    });
}
