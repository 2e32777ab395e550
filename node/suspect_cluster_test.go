package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/internal/faultnet"
	"dems/node"

	"github.com/hashicorp/raft"
)

// startPatient starts a cluster whose nodes would wait minutes for a leader's heartbeats: who leads has been put in place,
// by this function and then by suspicions, and a term more is an election more. It returns the suspicion of the leader.
func startPatient(t *testing.T, nodes int, change func(*node.Config)) (*cluster.Cluster, dems.Suspicion) {
	t.Helper()
	c := cluster.New(t, cluster.Config{Nodes: nodes, Change: func(config *node.Config) {
		config.HeartbeatTimeout, config.LeaderLease = 5*time.Minute, 5*time.Minute
		if change != nil {
			change(config)
		}
	}})
	t.Cleanup(func() { // in order they would hand over to each other, which may take as long
		for _, id := range c.IDs() {
			if n := c.Node(id); n != nil {
				n.Kill()
			}
		}
	})
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	c.Eventually("all nodes are ready to vote", func(context.Context) error {
		for _, id := range c.IDs() {
			if c.Node(id).Raft() == nil {
				return fmt.Errorf("%s is not", id)
			}
		}
		return nil
	})
	if !c.Node("n1").Stand(t.Context()) {
		t.Fatal("n1 does not stand for election")
	}
	for _, id := range c.IDs() {
		c.WaitReady(id)
	}
	s := dems.Suspicion{Leader: c.WaitLeader(), Term: c.Status("n1").Term}
	for _, id := range others(c, s.Leader) { // looks are being taken, so connections are there
		c.Eventually("the leader is found to lead", func(ctx context.Context) error {
			if opinion, err := c.Replica(id).Suspect(ctx, s); err != nil || opinion.Agrees || opinion.Term != s.Term {
				return fmt.Errorf("%s: %+v %v", id, opinion, err)
			}
			return nil
		})
	}
	return c, s
}

// suspect tells nodes of a suspicion, all at once as front ends do, and returns what they think.
func suspect(ctx context.Context, c *cluster.Cluster, s dems.Suspicion, ids ...dems.NodeID) map[dems.NodeID]dems.Opinion {
	var mu sync.Mutex
	var group sync.WaitGroup
	opinions := make(map[dems.NodeID]dems.Opinion)
	for _, id := range ids {
		group.Go(func() {
			opinion, err := c.Replica(id).Suspect(ctx, s)
			if err == nil {
				mu.Lock()
				opinions[id] = opinion
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return opinions
}

// waitReplaced waits until nodes follow another leader than the suspected one, one of them, and returns its name and term.
func waitReplaced(t *testing.T, c *cluster.Cluster, s dems.Suspicion, ids ...dems.NodeID) (dems.NodeID, uint64) {
	t.Helper()
	var first dems.NodeStatus
	c.Eventually("another leader", func(context.Context) error {
		first = c.Status(ids[0])
		for _, id := range ids {
			if status := c.Status(id); status.Leader == "" || status.Leader == s.Leader || status.Leader != first.Leader ||
				status.Term != first.Term {
				return fmt.Errorf("%s follows %q in term %d, %s %q in term %d", id, status.Leader, status.Term, ids[0],
					first.Leader, first.Term)
			}
		}
		return nil
	})
	return first.Leader, first.Term
}

// cut cuts a node off from the whole network, front ends included, without its being told: as SIGKILL or SIGSTOP would.
func cut(c *cluster.Cluster, id dems.NodeID) {
	all := []string{"fe1:7000"}
	for _, other := range c.IDs() {
		if other != id {
			all = append(all, c.Address(other))
		}
	}
	c.Network.Partition([]string{c.Address(id)}, all)
}

// TestBestPlacedCannotStand has the better placed of two survivors stand for election by its own timer, which the other one, that
// still believes in the leader, refuses: the other one stands.
func TestBestPlacedCannotStand(t *testing.T) {
	t.Parallel()
	const soon = 50 * time.Millisecond
	c, s := startPatient(t, 3, func(config *node.Config) {
		if config.ID == "n2" { // it does not come to lead
			config.LeaderLease = soon
		}
	})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	c.WaitEqual()
	survivors := others(c, s.Leader) // in the order of their IDs, with equal logs
	cut(c, s.Leader)
	first := c.Node(survivors[0]).Raft()
	impatient := first.ReloadableConfig()
	impatient.HeartbeatTimeout, impatient.ElectionTimeout = soon, soon
	if err := first.ReloadConfig(impatient); err != nil {
		t.Fatal(err)
	}
	waitCandidate(c, survivors[0])
	c.Eventually("another leader", func(ctx context.Context) error { // perhaps the first, as soon as there is another term
		suspect(ctx, c, s, survivors...) // as front ends do, again and again
		if status := c.Status(survivors[1]); status.Term == s.Term || status.Leader == "" {
			return fmt.Errorf("%s follows %q in term %d", survivors[1], status.Leader, status.Term)
		}
		return nil
	})
}

// TestHangingLeaderIsReplaced has the leader fall silent. When it is back, it follows.
func TestHangingLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	survivors := others(c, s.Leader)
	cut(c, s.Leader)
	began := time.Now()
	opinions := suspect(t.Context(), c, s, survivors...)
	looked := time.Since(began)
	leader, term := waitReplaced(t, c, s, survivors...)
	t.Logf("opinions after %v, a new leader after %v", looked, time.Since(began))
	if term != s.Term+1 || len(opinions) != 2 {
		t.Errorf("term %d after %d; opinions %+v", term, s.Term, opinions)
	}
	for id, opinion := range opinions {
		if opinion.Agrees && (opinion.LastIndex == 0 || opinion.LastTerm != s.Term) {
			t.Errorf("%s thinks %+v", id, opinion)
		}
	}
	reply, err := c.Replica(leader).Propose(t.Context(), batch(2, book("MTL", 1)))
	if err != nil || outcome(t, reply).Outcome != dems.Booked {
		t.Errorf("%+v %v", reply, err)
	}
	c.Network.Heal()
	waitReplaced(t, c, s, c.IDs()...)
	c.Eventually("what happened is recorded", func(context.Context) error {
		var kinds []dems.IncidentKind
		for _, incident := range incidents(c, s.Leader, leader) {
			if incident.By == string(leader) {
				kinds = append(kinds, incident.Kind)
			}
		}
		if !slices.Equal(kinds, []dems.IncidentKind{dems.SuspicionIncident, dems.RecoveryIncident}) {
			return fmt.Errorf("%s says of %s: %v", leader, s.Leader, kinds)
		}
		return nil
	})
	c.WaitEqual()
	if now := c.Status(leader); now.Leader != leader || now.Term != term {
		t.Errorf("%+v, want leader %s of term %d", now, leader, term)
	}
}

// TestSuspectedLeaderLeadsAgain has a leader that fell silent be back and lead at once: that it answers again is told, by whom ever.
func TestSuspectedLeaderLeadsAgain(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	survivors := others(c, s.Leader)
	cut(c, s.Leader)
	suspect(t.Context(), c, s, survivors...)
	waitReplaced(t, c, s, survivors...)
	told := func(kind dems.IncidentKind) {
		t.Helper()
		c.Eventually(fmt.Sprintf("%s is told", kind), func(context.Context) error {
			if about := incidents(c, s.Leader, survivors[0]); !slices.ContainsFunc(about, func(i dems.Incident) bool { return i.Kind == kind }) {
				return fmt.Errorf("%+v", about)
			}
			return nil
		})
	}
	told(dems.SuspicionIncident)
	c.Network.Heal()
	c.Eventually("it leads again", func(ctx context.Context) error {
		leader := c.WaitLeader()
		if leader == s.Leader {
			return nil
		}
		return fmt.Errorf("%s leads: %v", leader, c.Replica(leader).Transfer(ctx, s.Leader))
	})
	told(dems.RecoveryIncident)
}

// TestLeaderCutOffFromItsPeers cuts the links between leader and followers only: front ends still reach it, but it is of
// no use.
func TestLeaderCutOffFromItsPeers(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	survivors := others(c, s.Leader)
	isolate(c, s.Leader)
	suspect(t.Context(), c, s, c.IDs()...)
	if _, term := waitReplaced(t, c, s, survivors...); term != s.Term+1 {
		t.Errorf("term %d after %d", term, s.Term)
	}
	c.Network.Heal()
	waitReplaced(t, c, s, c.IDs()...)
}

// TestLeaderCutOffFromOnePeer has one follower not find the leader: that is not a majority.
func TestLeaderCutOffFromOnePeer(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	survivors := others(c, s.Leader)
	c.Network.SetLink(c.Address(s.Leader), c.Address(survivors[0]), cutLink)
	c.Network.SetLink(c.Address(survivors[0]), c.Address(s.Leader), cutLink)
	for range 3 {
		opinions := suspect(t.Context(), c, s, survivors...)
		if !opinions[survivors[0]].Agrees || opinions[survivors[1]].Agrees {
			t.Fatalf("%s cannot reach the leader, %s can: %+v", survivors[0], survivors[1], opinions)
		}
	}
	c.Propose(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: "fe1", Address: "http://fe1", Version: "test", Time: time.UnixMilli(1), Session: session,
	}}))
	if now := c.Status(s.Leader); now.Leader != s.Leader || now.Term != s.Term {
		t.Errorf("%+v, want leader %s of term %d still", now, s.Leader, s.Term)
	}
}

// TestNewestLogTakesOver gives one survivor an entry that the other one lacks, and tells only that other one: it must not
// lead, and it makes the better placed one act.
func TestNewestLogTakesOver(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	c.OpenSession(session)
	c.WaitEqual()
	behind, ahead := others(c, s.Leader)[0], others(c, s.Leader)[1]
	c.Network.SetLink(c.Address(s.Leader), c.Address(behind), cutLink)
	c.Network.SetLink(c.Address(behind), c.Address(s.Leader), cutLink)
	reply := c.Propose(batch(1, addEvent("MTL", 10)))
	c.WaitApplied(ahead, reply.Vote.Index)
	if c.Status(behind).Applied >= reply.Vote.Index {
		t.Fatalf("%s has the entry", behind)
	}
	cut(c, s.Leader)
	suspect(t.Context(), c, s, behind)
	if leader, term := waitReplaced(t, c, s, behind, ahead); leader != ahead || term != s.Term+1 {
		t.Errorf("%s leads in term %d, want %s in %d", leader, term, ahead, s.Term+1)
	}
	c.Network.Heal()
	waitReplaced(t, c, s, c.IDs()...)
}

// TestRestartedLeaderIsReplaced suspects a leader that was killed and started again at once: it answers, but that it does
// not lead.
func TestRestartedLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	c.KillNode(s.Leader)
	c.StartNode(s.Leader)
	began := time.Now()
	c.Eventually("another leader", func(ctx context.Context) error { // its front end asks until then, too
		suspect(ctx, c, s, c.IDs()...)
		if now := c.Status(others(c, s.Leader)[0]); now.Term == s.Term || now.Leader == "" {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	t.Logf("a new leader %v after the restart", time.Since(began))
	if _, term := waitReplaced(t, c, s, c.IDs()...); term != s.Term+1 {
		t.Errorf("term %d after %d", term, s.Term)
	}
}

// TestFiveNodesWithOneMoreDead loses the leader and another node.
func TestFiveNodesWithOneMoreDead(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 5, nil)
	down := others(c, s.Leader)[0]
	survivors := others(c, s.Leader)[1:]
	var rest []string
	for _, id := range survivors {
		rest = append(rest, c.Address(id))
	}
	c.Network.Partition(append(rest, "fe1:7000"), []string{c.Address(s.Leader)}, []string{c.Address(down)})
	began := time.Now()
	suspect(t.Context(), c, s, survivors...)
	leader, term := waitReplaced(t, c, s, survivors...)
	t.Logf("a new leader after %v", time.Since(began))
	if term != s.Term+1 || leader != survivors[0] {
		t.Errorf("%s leads in term %d, want %s in %d", leader, term, survivors[0], s.Term+1)
	}
	c.Network.Heal()
	waitReplaced(t, c, s, c.IDs()...)
}

// TestManyFrontEndsOneElection has many suspect a dead leader at the same time and go on after it was replaced: two hundred
// suspicions make one election. On a machine that starves them two nodes may hear other voices, both stand, and neither be
// elected; then Raft's timers decide, which here are short enough for that and far too long for anything else.
func TestManyFrontEndsOneElection(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 5, func(config *node.Config) {
		config.HeartbeatTimeout, config.LeaderLease = 3*time.Second, 3*time.Second
	})
	survivors := others(c, s.Leader)
	cut(c, s.Leader)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 10 {
				suspect(t.Context(), c, s, survivors...)
			}
		})
	}
	leader, term := waitReplaced(t, c, s, survivors...)
	group.Wait()
	if now := c.Status(leader); term > s.Term+3 || now.Term != term || now.Leader != leader {
		t.Errorf("%s leads in term %d; %s was elected in term %d after %d", now.Leader, now.Term, leader, term, s.Term)
	}
	t.Logf("elected in term %d after %d", term, s.Term)
	c.Network.Heal()
	waitReplaced(t, c, s, c.IDs()...)
}

// TestHostileSuspicions suspects a healthy leader, other nodes and other terms all the time, while the cluster works.
func TestHostileSuspicions(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, nil)
	c.OpenSession(session)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for number := range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				for _, hostile := range []dems.Suspicion{
					s, {Leader: s.Leader, Term: s.Term + uint64(number)}, {Leader: c.IDs()[number%3], Term: s.Term}, {Leader: "n9", Term: 1 << 63},
				} {
					suspect(ctx, c, hostile, c.IDs()...)
				}
			}
		})
	}
	for number := 1; number <= 50; number++ {
		c.Propose(batch(number, addEvent("MTL", uint32(number))))
	}
	cancel()
	group.Wait()
	for _, id := range c.IDs() {
		if now := c.Status(id); now.Leader != s.Leader || now.Term != s.Term {
			t.Errorf("%s follows %s in term %d, want %s in %d", id, now.Leader, now.Term, s.Leader, s.Term)
		}
	}
	for _, wrong := range []dems.Suspicion{{Leader: s.Leader, Term: s.Term + 1}, {Leader: s.Leader, Term: s.Term - 1}, {Leader: "n9", Term: s.Term}} {
		for id, opinion := range suspect(t.Context(), c, wrong, others(c, s.Leader)...) {
			if opinion.Agrees {
				t.Errorf("%s agrees with %+v", id, wrong)
			}
		}
	}
}

// TestLeaderWithHangingDiskIsReplaced has a write of the leader hang: it must stop leading though its heartbeats would go
// on, and nobody suspects it but itself. What it was writing must not be lost or done twice.
func TestLeaderWithHangingDiskIsReplaced(t *testing.T) {
	t.Parallel()
	c, s := startPatient(t, 3, func(config *node.Config) { config.StallTimeout = 500 * time.Millisecond })
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	release := make(chan struct{})
	c.Node(s.Leader).HangDisk(release)
	began := time.Now()
	var proposing sync.WaitGroup
	proposing.Go(func() { _, _ = c.Node(s.Leader).Propose(t.Context(), batch(2, book("MTL", 1))) })
	leader, term := waitReplaced(t, c, s, others(c, s.Leader)...)
	t.Logf("a new leader %v after the disk began to hang, of which %v are StallTimeout", time.Since(began), 500*time.Millisecond)
	if term != s.Term+1 {
		t.Errorf("term %d after %d", term, s.Term)
	}
	if c.Node(s.Leader).Raft().State() != raft.Leader {
		t.Error("the old leader has stepped down: its disk does not hang as it should")
	}
	if _, err := c.Node(s.Leader).Status(t.Context()); kind(t, err) != dems.NotReady {
		t.Errorf("the old leader's status: %v", err)
	}
	if _, err := c.Replica(s.Leader).Propose(t.Context(), batch(2, book("MTL", 1))); kind(t, err) != dems.NotApplied {
		t.Errorf("the old leader is proposed to: %v", err)
	}
	reply, err := c.Replica(leader).Propose(t.Context(), batch(2, book("MTL", 1)))
	if err != nil || outcome(t, reply).Outcome != dems.Booked {
		t.Errorf("%+v %v", reply, err)
	}
	close(release)
	proposing.Wait()
	waitReplaced(t, c, s, c.IDs()...)
	c.WaitEqual()
	if result := read(t, c, s.Leader, reply.Vote.Index, availability()); len(result.Events) != 1 || result.Events[0].Booked != 1 {
		t.Errorf("%+v, want one booking", result)
	}
}

var cutLink = faultnet.Link{Cut: true}
