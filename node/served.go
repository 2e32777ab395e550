package node

import (
	"context"
	"fmt"

	"dems"
	"dems/transport"
)

// handler returns what the node's endpoint serves.
func (n *Node) handler() transport.Handler {
	if n.state.faults != nil {
		// The end of the node is the end of its faults: nothing stays held.
		context.AfterFunc(n.work, n.state.faults.clear)
	}
	return served{n, n.state.faults}
}

// Inject implements transport.Handler.
func (n *Node) Inject(ctx context.Context, fault dems.Fault) error {
	done, err := n.state.faults.inject(ctx, fault)
	if err != nil {
		return err
	}
	n.logger.Warn("drill: a fault was injected", "kind", fault.Kind, "requests", fault.Requests, "delay", fault.Delay, "done", done,
		"jitter", fault.Jitter, "peers", fault.Peers, "direction", fault.Direction, "lasts", fault.Lasts)
	return nil
}

// served is a node as other servers see it: what they may propose depends on who they are and, in drills, the node is slow,
// mute or wrong. A call that a fault keeps from being answered is not carried out either, so that what is known of it is
// certain. What the node does by itself is not touched by any of this.
type served struct {
	node   *Node
	faults *faults
}

var _ transport.Handler = served{}

// mayPropose tells whether a server may have an entry ordered. Front ends bring what clients want and say who they are;
// nodes say who they are and what they find of each other. Nobody speaks in another's name: a verdict counts as one voice, of
// the node that gives it.
func mayPropose(role transport.Role, name string, entry *dems.Entry) bool {
	switch role {
	case transport.RoleFrontEnd:
		return entry.Kind == dems.BatchEntry || entry.Kind == dems.RegisterFrontEndEntry && entry.Registration.ID == name
	case transport.RoleNode:
		switch entry.Kind {
		case dems.RegisterNodeEntry:
			return entry.Registration.ID == name
		case dems.VerdictEntry:
			return string(entry.Verdict.By) == name
		case dems.IncidentEntry, dems.ReplacementEntry:
			return true
		}
	}
	return false
}

func (s served) hold(ctx context.Context) error {
	if err := s.faults.hold(ctx); err != nil {
		return replicaError(dems.NotApplied, err)
	}
	return nil
}

// held answers a call if the faults let it.
func held[T any](ctx context.Context, s served, answer func() (T, error)) (T, error) {
	if err := s.hold(ctx); err != nil {
		var none T
		return none, err
	}
	return answer()
}

// Propose implements transport.Handler.
func (s served) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	permit := func(decoded *dems.Entry) error {
		role, name, remote := transport.Caller(ctx)
		if remote && !mayPropose(role, name, decoded) {
			return fmt.Errorf("the %s %s may not propose an entry of kind %d, or not for another server", role, name, decoded.Kind)
		}
		return nil
	}
	return held(ctx, s, func() (dems.BatchReply, error) { return s.node.order(ctx, entry, permit) })
}

// Query implements transport.Handler.
func (s served) Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	reply, err := held(ctx, s, func() (dems.QueryReply, error) { return s.node.Query(ctx, batch) })
	if err == nil {
		s.faults.spoilReply(batch.Queries, &reply)
	}
	return reply, err
}

// Votes implements transport.Handler. A stream that is open when the node becomes mute sends nothing until that ends; then
// it breaks, and whoever read it begins again with the votes that it missed.
func (s served) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	return s.node.Votes(ctx, session, func(votes []dems.Vote) error {
		if err := s.faults.holdMessage(ctx); err != nil {
			return replicaError(dems.NotReady, err)
		}
		return send(votes)
	})
}

// Results implements transport.Handler.
func (s served) Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error) {
	return held(ctx, s, func() (dems.BatchReply, error) { return s.node.Results(ctx, session, batch) })
}

// Status implements transport.Handler.
func (s served) Status(ctx context.Context) (dems.NodeStatus, error) {
	return held(ctx, s, func() (dems.NodeStatus, error) { return s.node.Status(ctx) })
}

// ReadIndex implements transport.Handler.
func (s served) ReadIndex(ctx context.Context) (uint64, error) {
	return held(ctx, s, func() (uint64, error) { return s.node.ReadIndex(ctx) })
}

// CityLog implements transport.Handler.
func (s served) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	return held(ctx, s, func() (dems.CityLogPage, error) { return s.node.CityLog(ctx, city, first, maxBytes) })
}

// Suspect implements transport.Handler.
func (s served) Suspect(ctx context.Context, suspicion dems.Suspicion) (dems.Opinion, error) {
	return held(ctx, s, func() (dems.Opinion, error) { return s.node.Suspect(ctx, suspicion) })
}

// StateAt implements transport.Handler.
func (s served) StateAt(ctx context.Context, index uint64) (dems.Digest, error) {
	return held(ctx, s, func() (dems.Digest, error) { return s.node.StateAt(ctx, index) })
}

// Transfer implements transport.Handler.
func (s served) Transfer(ctx context.Context, to dems.NodeID) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	return s.node.Transfer(ctx, to)
}

// Report implements transport.Handler.
func (s served) Report(ctx context.Context, report dems.Report) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	return s.node.Report(ctx, report)
}

// Replace implements transport.Handler.
func (s served) Replace(ctx context.Context, id dems.NodeID) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	return s.node.Replace(ctx, id)
}

// Inject implements transport.Handler. It is never held: a mute node could not be healed.
func (s served) Inject(ctx context.Context, fault dems.Fault) error {
	return s.node.Inject(ctx, fault)
}

// Backup implements transport.Handler. A node that becomes mute meanwhile goes on when that ends.
func (s served) Backup(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	return s.node.Backup(ctx, minIndex, func(part dems.BackupPart) error {
		if err := s.faults.holdMessage(ctx); err != nil {
			return replicaError(dems.NotReady, err)
		}
		return send(part)
	})
}
