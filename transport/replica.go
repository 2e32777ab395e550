package transport

import (
	"context"

	"dems"
)

// Replica is a client of one node. It connects when first used, connects again when the connection broke, and is safe for
// concurrent use. Every error is a *dems.ReplicaError.
type Replica struct{}

var _ Handler = (*Replica)(nil)

var errReplica = &dems.ReplicaError{Kind: dems.NotApplied, Err: errTodo}

// Close ends the connection; calls in flight and later ones fail.
func (r *Replica) Close() error { return nil }

// Propose implements Handler.
func (r *Replica) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return dems.BatchReply{}, errReplica
}

// Query implements Handler.
func (r *Replica) Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	return dems.QueryReply{}, errReplica
}

// Votes implements Handler.
func (r *Replica) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	return errReplica
}

// Results implements Handler.
func (r *Replica) Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error) {
	return dems.BatchReply{}, errReplica
}

// Status implements Handler.
func (r *Replica) Status(ctx context.Context) (dems.NodeStatus, error) {
	return dems.NodeStatus{}, errReplica
}

// ReadIndex implements Handler.
func (r *Replica) ReadIndex(ctx context.Context) (uint64, error) { return 0, errReplica }

// CityLog implements Handler.
func (r *Replica) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	return dems.CityLogPage{}, errReplica
}

// Transfer implements Handler.
func (r *Replica) Transfer(ctx context.Context, to dems.NodeID) error { return errReplica }
