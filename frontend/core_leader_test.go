package frontend

import (
	"context"
	"errors"
	"testing"
	"time"

	"dems"
)

func TestElectLeader(t *testing.T) {
	now := time.Unix(1000, 0)
	long, lately, justNow := now.Add(-time.Minute), now.Add(-time.Second), now.Add(-time.Millisecond)
	type said struct {
		leader  dems.NodeID
		term    uint64
		gone    bool
		failed  time.Time
		proven  bool
		unasked bool
	}
	for name, test := range map[string]struct {
		nodes []said
		want  dems.NodeID
		term  uint64
	}{
		"nobody knows":              {[]said{{}, {}, {}}, "", 0},
		"nobody answers":            {[]said{{leader: "n1", gone: true}, {leader: "n1", gone: true}}, "", 0},
		"all agree":                 {[]said{{leader: "n2", term: 5}, {leader: "n2", term: 5}, {leader: "n2", term: 5}}, "n2", 5},
		"one lies about the term":   {[]said{{leader: "n2", term: 5}, {leader: "n2", term: 5}, {leader: "n2", term: 1 << 60}}, "n2", 5},
		"one claims it":             {[]said{{leader: "n1", term: 5}, {leader: "n1", term: 5}, {leader: "n3", term: 1 << 60}}, "n1", 5},
		"a stranger":                {[]said{{leader: "x", term: 5}, {leader: "x", term: 5}, {leader: "n3", term: 5}}, "n3", 5},
		"claims are equal":          {[]said{{leader: "n1", term: 5}, {leader: "n2", term: 6}, {}}, "n2", 6},
		"a claim that failed":       {[]said{{leader: "n1", term: 5}, {leader: "n2", term: 6, failed: lately}, {}}, "n1", 5},
		"the first of which failed": {[]said{{leader: "n1", term: 6, failed: lately}, {leader: "n2", term: 5}, {}}, "n2", 5},
		"one that failed long ago":  {[]said{{leader: "n1", term: 5}, {leader: "n2", term: 6, failed: long}, {}}, "n2", 6},
		"both failed":               {[]said{{leader: "n1", term: 5, failed: lately}, {leader: "n2", term: 6, failed: justNow}, {}}, "n1", 5},
		"one has led":               {[]said{{leader: "n1", term: 5, proven: true}, {leader: "n2", term: 6}, {}}, "n1", 5},
		"the only one, who failed":  {[]said{{leader: "n1", term: 5, failed: justNow}, {}, {}}, "n1", 5},
		"a majority's, who failed": {
			[]said{{leader: "n1", term: 5, failed: justNow}, {leader: "n1", term: 5}, {leader: "n3", term: 6}}, "n1", 5,
		},
		"a claim, and one not asked yet":    {[]said{{leader: "n1", term: 9}, {}, {gone: true, unasked: true}}, "", 0},
		"a majority's, one not asked yet":   {[]said{{leader: "n1", term: 9}, {leader: "n1", term: 9}, {gone: true, unasked: true}}, "n1", 9},
		"the last word of one that is gone": {[]said{{leader: "n1", term: 9, gone: true}, {leader: "n2", term: 5}, {}}, "n2", 5},
	} {
		t.Run(name, func(t *testing.T) {
			v := &view{}
			for i, s := range test.nodes {
				n := &node{failed: s.failed, polled: !s.unasked}
				id := dems.NodeID([]string{"n1", "n2", "n3"}[i])
				n.id.Store(&id)
				n.proven.Store(s.proven)
				n.status = dems.NodeStatus{ID: id, Leader: s.leader, Term: s.term}
				if s.gone {
					n.err = errors.New("gone")
				}
				v.nodes = append(v.nodes, n)
			}
			v.voters = v.nodes
			leader, term := electLeader(v, now)
			if leader == nil != (test.want == "") || leader != nil && leader.name() != test.want || term != test.term {
				t.Errorf("got %v in term %d, want %q in %d", leader, term, test.want, test.term)
			}
		})
	}
}

// claims is what a node does that says that it leads, and does not.
var claims = map[string]func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error){
	"refuses": func(context.Context, []byte, proposal) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotLeader, Leader: "n2"}
	},
	"names nobody": func(context.Context, []byte, proposal) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotLeader}
	},
	"hangs": func(ctx context.Context, _ []byte, _ proposal) (dems.BatchReply, error) {
		<-ctx.Done()
		return dems.BatchReply{}, errGone
	},
	"breaks": func(context.Context, []byte, proposal) (dems.BatchReply, error) { return dems.BatchReply{}, errGone },
	"bad request": func(context.Context, []byte, proposal) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.BadRequest}
	},
	"pretends": func(context.Context, []byte, proposal) (dems.BatchReply, error) {
		return dems.BatchReply{Vote: dems.Vote{Node: "n2", Index: 1 << 60}, Results: []byte("rubbish")}, nil
	},
}

// A node claims to lead in the highest of terms, and does not; the node that leads is the only other one that answers. Its
// results are right, so there is a majority, and requests succeed.
func TestClaimsWithAnotherNodeGone(t *testing.T) {
	for name, claim := range claims {
		if name == "pretends" { // its results are wrong: no majority is left
			continue
		}
		for gone, into := range map[string]reach{"dead": dead, "hanging": hanging} {
			t.Run(name+", other "+gone, func(t *testing.T) {
				ready(t, 3, func(h *harness) {
					h.w.set(h.node(3), into)
					h.w.tell(h.node(2), lies{propose: claim, status: func(s *dems.NodeStatus) { s.Leader, s.Term = "n2", 1<<60 }})
					time.Sleep(2 * pollInterval)
					slow := 0
					for i := range 100 {
						started := time.Now()
						h.wantView(h.must(addEvent(i, 5), doubt+4*patience), 5, 0)
						if time.Since(started) > patience {
							slow++
						}
						time.Sleep(300 * time.Millisecond)
					}
					if slow > 3 {
						t.Errorf("%d of 100 requests took a detour", slow)
					}
				})
			})
		}
	}
}

// The same with everybody there and an election going on, in which only the liar claims anything.
func TestClaimsDuringAnElection(t *testing.T) {
	for name, claim := range claims {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.tell(h.node(2), lies{propose: claim, status: func(s *dems.NodeStatus) { s.Leader, s.Term = "n2", 1<<60 }})
				h.w.suspendLeadership()
				time.Sleep(2 * pollInterval)
				result := h.background(addEvent(1, 5))
				time.Sleep(700 * time.Millisecond)
				h.w.elect(h.node(3))
				h.wantView(h.await(result, 800*time.Millisecond), 5, 0)
				h.wantApplied(addEvent(1, 5), 1)
				h.must(addEvent(2, 5), 0)
			})
		})
	}
}

// A front end that starts while a liar claims to lead opens its session nevertheless.
func TestSessionOpensDespiteAClaim(t *testing.T) {
	for name, claim := range claims {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				if name != "pretends" { // its results are wrong: the third is needed
					h.w.set(h.node(3), dead)
				}
				h.w.tell(h.node(2), lies{propose: claim, status: func(s *dems.NodeStatus) { s.Leader, s.Term = "n2", 1<<60 }})
				second := h.start("fe2")
				h.wantView(h.mustAt(second, addEvent(1, 5), 4*time.Second), 5, 0)
			})
		})
	}
}

// One proposal is lost without a trace; it is sent once more.
func TestLostProposalIsSentAgain(t *testing.T) {
	ready(t, 3, func(h *harness) {
		lost := false
		h.w.tell(h.node(1), lies{propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			if !lost {
				lost = true
				<-ctx.Done()
				return dems.BatchReply{}, errGone
			}
			return next(ctx, entry)
		}})
		h.must(addEvent(1, 5), doubt+4*patience)
		h.wantApplied(addEvent(1, 5), 1)
	})
}

// The leader changes again and again with requests on their way.
func TestLeaderChangesAllTheTime(t *testing.T) {
	ready(t, 5, func(h *harness) {
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 1; ctx.Err() == nil; i++ {
				h.w.suspendLeadership()
				time.Sleep(7 * time.Millisecond)
				h.w.elect(h.w.nodes[i%5])
				time.Sleep(29 * time.Millisecond)
			}
		}()
		for i := range 100 {
			h.must(addEvent(i, 5), time.Second)
			time.Sleep(3 * time.Millisecond)
		}
		stop()
		<-stopped
		for i := range 100 {
			h.wantApplied(addEvent(i, 5), 1)
		}
	})
}
