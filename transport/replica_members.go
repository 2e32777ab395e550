package transport

import (
	"context"

	"dems"
	"dems/transport/rpc"
)

// Calls about the cluster's own members, from the client's side.

// Report implements Handler.
func (r *Replica) Report(ctx context.Context, report dems.Report) error {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	_, err := r.client.Report(ctx, &rpc.ReportRequest{
		Kind: uint32(report.Kind), Node: string(report.Node), Incarnation: report.Incarnation,
		Strikes: uint32(max(0, report.Strikes)), Indexes: report.Indexes, Expected: report.Expected, Answered: report.Answered,
	})
	if err != nil {
		return clientError(call, err)
	}
	return nil
}

// Suspect implements Handler.
func (r *Replica) Suspect(ctx context.Context, suspicion dems.Suspicion) (dems.Opinion, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.Suspect(ctx, &rpc.SuspectRequest{Leader: string(suspicion.Leader), Term: suspicion.Term})
	if err != nil {
		return dems.Opinion{}, clientError(call, err)
	}
	return dems.Opinion{Agrees: reply.Agrees, Term: reply.Term, LastTerm: reply.LastTerm, LastIndex: reply.LastIndex}, nil
}

// StateAt implements Handler.
func (r *Replica) StateAt(ctx context.Context, index uint64) (dems.Digest, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.StateAt(ctx, &rpc.StateAtRequest{Index: index})
	if err != nil {
		return dems.Digest{}, clientError(call, err)
	}
	var digest dems.Digest
	if len(reply.Digest) != len(digest) {
		return dems.Digest{}, malformedReply("a digest of %d bytes", len(reply.Digest))
	}
	copy(digest[:], reply.Digest)
	return digest, nil
}

// Replace implements Handler.
func (r *Replica) Replace(ctx context.Context, id dems.NodeID) error {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	if _, err := r.client.Replace(ctx, &rpc.ReplaceRequest{Node: string(id)}); err != nil {
		return clientError(call, err)
	}
	return nil
}

// Inject implements Handler. Durations are in whole milliseconds.
func (r *Replica) Inject(ctx context.Context, fault dems.Fault) error {
	if problem := fault.Check(); problem != "" {
		return badRequest("%s", problem)
	}
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	_, err := r.client.Inject(ctx, &rpc.InjectRequest{
		Kind: uint32(fault.Kind), Requests: uint32(fault.Requests), DelayMs: uint32(fault.Delay.Milliseconds()),
		JitterMs: uint32(fault.Jitter.Milliseconds()), Peers: fault.Peers, Direction: uint32(fault.Direction),
		LastsMs: uint32(fault.Lasts.Milliseconds()),
	})
	if err != nil {
		return clientError(call, err)
	}
	return nil
}
