package node

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

const (
	// agreementTimeout bounds asking the peers: each takes at most one look.
	agreementTimeout = maxLook + 100*time.Millisecond
	// agreementPause is the pause after the peers were asked.
	agreementPause = 100 * time.Millisecond
	// passAfter is how long the best placed node may take to stand for election until it is passed over, passUntil for how long it then is: if
	// it is suspected that a leader is gone after that, it is another time.
	passAfter = 250 * time.Millisecond
	passUntil = 2 * time.Second
	// takeOverPause is the shortest time between two elections that this node stands for on a suspicion.
	takeOverPause = time.Second
	// standRetry is how long Raft is waited for until it is looked at again whether there is still reason to stand.
	standRetry = time.Millisecond
)

// Suspicion is how a leader that is gone is replaced without waiting for timers. A front end, or a leader whose disk hangs,
// tells the nodes. Each looks for itself (lookout); if it does not find the leader either, it asks the other voters,
// which makes them do the same, wherever the suspicion came from; and if more than half of all voters agree, the
// best-placed one of them, which has asked as well, stands for election at once. So there is one who decides, and it knows
// at that moment that it does not follow anybody else by now: nobody can be told to take over by a message that was late.
// A healthy leader cannot be deposed by suspicions: what counts is that it does not answer a majority.

// Suspect implements transport.Handler. Who asks whether another node leads gets what this node sees, and if that is no
// leader, this node does something about it. Who asks whether this node leads is told so.
func (n *Node) Suspect(ctx context.Context, s dems.Suspicion) (dems.Opinion, error) {
	r, err := n.running()
	if err != nil {
		return dems.Opinion{}, replicaError(dems.NotReady, err)
	}
	if s.Leader == n.config.ID {
		return dems.Opinion{Agrees: !n.leads(r, s.Term), Term: r.CurrentTerm()}, nil
	}
	if n.lookout.focus(r) == s {
		select { // the agreement must not depend on how long the caller waits
		case n.lookout.suspicions <- s:
		default: // one waits already; there is one leader to suspect
		}
	}
	opinion, err := n.opinion(ctx, r, s)
	if err != nil {
		return dems.Opinion{}, replicaError(dems.NotReady, err)
	}
	return opinion, nil
}

// leads tells whether this node leads in that term or a newer one, and can write.
func (n *Node) leads(r *raft.Raft, term uint64) bool {
	return r.State() == raft.Leader && r.CurrentTerm() >= term && !n.watchdog.stalled()
}

// opinion is what this node thinks of a suspicion of another node, after a look. It disagrees at once where it follows
// somebody else, or knows of a newer term.
func (n *Node) opinion(ctx context.Context, r *raft.Raft, s dems.Suspicion) (dems.Opinion, error) {
	if n.inSight(r, s) {
		l := n.lookout.join(s)
		select {
		case <-l.decided:
		case <-ctx.Done():
			return dems.Opinion{}, ctx.Err()
		case <-n.work.Done():
			return dems.Opinion{}, errStopping
		}
		if n.work.Err() != nil { // the look may have ended for that reason
			return dems.Opinion{}, errStopping
		}
		if l.gone && l.of == s && n.inSight(r, s) {
			opinion := lastEntry(r)
			opinion.Agrees, opinion.Term = true, s.Term
			return opinion, nil
		}
	}
	return dems.Opinion{Term: r.CurrentTerm()}, nil
}

// inSight tells whether a suspicion is of the leader that this node follows or followed last, in the term it is in.
func (n *Node) inSight(r *raft.Raft, s dems.Suspicion) bool {
	return r.CurrentTerm() == s.Term && n.lookout.focus(r) == s
}

// lastEntry returns term and index of the last entry in the log.
func lastEntry(r *raft.Raft) dems.Opinion {
	stats := r.Stats()
	number := func(key string) uint64 {
		value, _ := strconv.ParseUint(stats[key], 10, 64) // Raft has formatted it
		return value
	}
	last := dems.Opinion{LastTerm: number("last_log_term"), LastIndex: number("last_log_index")}
	if snapshot := number("last_snapshot_index"); snapshot > last.LastIndex { // and the log has nothing after it
		last = dems.Opinion{LastTerm: number("last_snapshot_term"), LastIndex: snapshot}
	}
	return last
}

// voice is a node's opinion.
type voice struct {
	node    dems.NodeID
	opinion dems.Opinion
}

// best returns the node that is best placed to lead: with the newest log or, where several have it, with the lowest ID. Of those with
// equal logs one that has been passed over comes last.
func best(voices []voice, passed func(dems.NodeID) bool) dems.NodeID {
	late := func(v voice) int {
		if passed(v.node) {
			return 1
		}
		return 0
	}
	return slices.MaxFunc(voices, func(a, b voice) int {
		return cmp.Or(
			cmp.Compare(a.opinion.LastTerm, b.opinion.LastTerm), cmp.Compare(a.opinion.LastIndex, b.opinion.LastIndex),
			cmp.Compare(late(b), late(a)), cmp.Compare(b.node, a.node),
		)
	}).node
}

// startLookout starts what watches over the leader, and over this node while it leads, until the node stops.
func (n *Node) startLookout(r *raft.Raft, group *sync.WaitGroup) {
	group.Go(func() { n.mended.relay(n.stopped) })
	group.Go(func() { n.lookOut(n.work, r) })
	group.Go(func() { n.settleSuspicions(n.work, r) })
	group.Go(func() { n.watchDisk(n.work, r) })
}

// settleSuspicions acts on suspicions, one at a time, until ctx ends.
func (n *Node) settleSuspicions(ctx context.Context, r *raft.Raft) {
	var tookOver time.Time
	var about dems.Suspicion
	left := make(map[dems.NodeID]time.Time) // to whom this node left it, since when, and nobody was elected
	for {
		var s dems.Suspicion
		select {
		case <-ctx.Done():
			return
		case s = <-n.lookout.suspicions:
		}
		own, err := n.opinion(ctx, r, s)
		if s != about || err != nil || !own.Agrees {
			about = s
			clear(left)
		}
		if err != nil || !own.Agrees {
			continue // and it cost a look at most
		}
		passed := func(id dems.NodeID) bool {
			waited := time.Since(left[id])
			return waited >= passAfter && waited < passUntil
		}
		switch successor := n.agree(ctx, r, s, own, passed); {
		case successor == "":
		case successor != n.config.ID:
			if time.Since(left[successor]) >= passUntil {
				left[successor] = time.Now()
			}
		case time.Since(tookOver) >= takeOverPause:
			tookOver = time.Now()
			n.takeOver(ctx, r, s)
		}
		wait(ctx, agreementPause)
	}
}

// agree asks the other voters and returns, if more than half of all agree, the best placed of them, else "". The leader itself is not
// asked. Once there is a majority, who has said nothing yet is waited for as long as a look takes: if those who decide at the same time
// heard different voices, two might stand and neither be elected. The best placed may be unable to stand: it may not know that the
// others agree, or stand already, by its own timer, and ask those who still believe in the leader. After a while it is passed over.
func (n *Node) agree(ctx context.Context, r *raft.Raft, s dems.Suspicion, own dems.Opinion, passed func(dems.NodeID) bool) dems.NodeID {
	voters := votersOf(r)
	if !slices.Contains(voters, n.config.ID) {
		return ""
	}
	others := slices.DeleteFunc(slices.Clone(voters), func(id dems.NodeID) bool { return id == n.config.ID || id == s.Leader })
	ctx, cancel := context.WithTimeout(ctx, agreementTimeout)
	voices, asking := n.ask(ctx, s, others)
	defer asking.Wait()
	defer cancel()
	agreeing := []voice{{n.config.ID, own}}
	var last <-chan time.Time
	for heard := 0; heard < len(others); heard++ {
		if last == nil && len(agreeing) > len(voters)/2 {
			last = time.After(n.lookout.patience())
		}
		select {
		case v := <-voices:
			if v.opinion.Agrees {
				agreeing = append(agreeing, v)
			}
		case <-last:
			heard = len(others)
		}
	}
	if now := lastEntry(r); now.LastIndex != own.LastIndex || now.LastTerm != own.LastTerm {
		return "" // the leader works, and what has been compared is out of date
	}
	n.logger.Info("the leader does not answer", "leader", s.Leader, "term", s.Term, "agreeing", len(agreeing), "voters", len(voters))
	if len(agreeing) <= len(voters)/2 {
		return ""
	}
	return best(agreeing, passed)
}

// votersOf returns the nodes with a vote, as Raft counts votes.
func votersOf(r *raft.Raft) []dems.NodeID {
	var voters []dems.NodeID
	for _, server := range r.GetConfiguration().Configuration().Servers {
		if server.Suffrage == raft.Voter {
			voters = append(voters, dems.NodeID(server.Address))
		}
	}
	return voters
}

// ask asks peers, all at once, what they think of a suspicion. There comes an answer from each, soon after ctx has ended at
// the latest; who does not answer does not agree.
func (n *Node) ask(ctx context.Context, s dems.Suspicion, ids []dems.NodeID) (<-chan voice, *sync.WaitGroup) {
	voices := make(chan voice, len(ids))
	group := new(sync.WaitGroup)
	for _, id := range ids {
		group.Go(func() {
			v := voice{node: id}
			if peer := n.peers[id]; peer != nil {
				v.opinion, _ = peer.Suspect(ctx, s)
			}
			voices <- v
		})
	}
	return voices, group
}

// takeOver has Raft stand for election at once, with the vote of members that still have a leader, and waits for the
// outcome. It is what Raft does with a message that its leader sends when it hands over; this one comes from within.
func (n *Node) takeOver(ctx context.Context, r *raft.Raft, s dems.Suspicion) {
	ctx, cancel := context.WithTimeout(ctx, 2*n.config.HeartbeatTimeout)
	defer cancel()
	changes := make(chan raft.Observation, 16)
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		change, ok := o.Data.(raft.LeaderObservation)
		return ok && change.LeaderAddr != ""
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	started := time.Now()
	if !n.stand(ctx, r, s.Term) {
		return
	}
	select {
	case <-ctx.Done():
		n.logger.Warn("nobody has been elected in place of the leader that does not answer", "leader", s.Leader, "term", s.Term)
	case change := <-changes:
		elected := dems.NodeID(change.Data.(raft.LeaderObservation).LeaderAddr)
		n.logger.Warn("the leader that does not answer was replaced", "leader", s.Leader, "term", s.Term, "by", elected,
			"after", time.Since(started))
		if elected == n.config.ID {
			n.noteSuspicion(r, s)
		}
	}
}

// stand gives Raft the message that makes it stand for election, while it follows in that term.
func (n *Node) stand(ctx context.Context, r *raft.Raft, term uint64) bool {
	address := raft.ServerAddress(n.config.ID)
	message := raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.serverID), Addr: n.mended.EncodePeer(n.serverID, address),
		}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	ticker := time.NewTicker(standRetry)
	defer ticker.Stop()
	for r.State() == raft.Follower && r.CurrentTerm() == term {
		select {
		case n.mended.messages <- message:
			return true
		case <-ticker.C: // Raft is busy: when it is not, things may have changed
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// noteSuspicion records that this node has taken over from a leader that did not answer.
func (n *Node) noteSuspicion(r *raft.Raft, s dems.Suspicion) {
	incident := dems.Incident{
		Kind: dems.SuspicionIncident, Node: s.Leader, By: string(n.config.ID),
		Detail: "did not answer a majority while it led in term " + strconv.FormatUint(s.Term, 10),
	}
	for _, member := range members(r.GetConfiguration().Configuration().Servers) {
		if member.ID == s.Leader {
			incident.Incarnation = member.Incarnation
		}
	}
	n.noteChange(incident, n.lastHealth(life{incident.Node, incident.Incarnation}))
}
