// Package drill breaks a cluster on purpose, while clients use it, and reports what they saw of that.
//
// It owns the scenarios: whom they break, how, until when, and what has to follow; a watch over the cluster meanwhile, which
// learns who leads and what happened; and the verdict over everything that was seen. Clients and their requests are package
// traffic's, what is done to processes package target's, the check of histories package linearizability's. It never breaks two
// things at once, nothing before the cluster is whole, and leaves nothing broken: what a round did is mended when the round ends,
// however it ends.
//
// Run starts goroutines for the load, for the watch and for telling about progress, and waits for all of them.
package drill
