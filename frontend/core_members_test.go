package frontend

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// addMember makes a node a member in the newest configuration. Callers hold mu.
func (w *world) addMember(n *fakeNode, suffrage dems.Suffrage) {
	w.configuration = uint64(len(w.log) + 1)
	for i := range w.members {
		if w.members[i].ID == n.id {
			w.members[i].Suffrage = suffrage
			return
		}
	}
	w.members = append(w.members, dems.Member{ID: n.id, Address: n.address, Suffrage: suffrage})
}

// voters returns whom the front end believes to vote.
func (h *harness) voters() []dems.NodeID {
	var voters []dems.NodeID
	for _, n := range h.core.members.view().voters {
		voters = append(voters, n.name())
	}
	return voters
}

func TestClusterGrows(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 50), 0)
		for number := 4; number <= 5; number++ {
			var n *fakeNode
			h.w.change(func() { n = h.w.addNode(); h.w.addMember(n, dems.Nonvoter) })
			time.Sleep(2 * pollInterval)
			if voters := h.voters(); len(voters) != number-1 {
				t.Errorf("voters %v although %s does not vote yet", voters, n.id)
			}
			if reply := h.must(book(2*number, 1), 0); reply.Asked != number-1 {
				t.Errorf("%d nodes were asked, one of %d does not vote", reply.Asked, number)
			}
			h.w.change(func() { h.w.addMember(n, dems.Voter) })
			time.Sleep(2 * pollInterval)
			if reply := h.must(book(2*number+1, 1), 0); reply.Asked != number || reply.Agreeing < number/2+1 {
				t.Errorf("with %d nodes: %+v", number, reply)
			}
		}
		equal(t, []dems.NodeID{"n1", "n2", "n3", "n4", "n5"}, h.voters())
		// Now the two new ones count, and two others may fail.
		h.w.set(h.node(2), hanging)
		h.w.set(h.node(3), dead)
		h.wantVotes(h.must(getEvent(1), 0), 3, 5)
		h.wantVotes(h.must(book(1, 1), 0), 3, 5)
	})
}

// Who votes is learned at once from the votes on what changed it, not by the next poll.
func TestConfigurationIsLearnedAtOnce(t *testing.T) {
	ready(t, 3, func(h *harness) {
		time.Sleep(pollInterval / 2)
		h.w.change(func() {
			h.w.addMember(h.w.addNode(), dems.Voter)
			h.w.append(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterNodeEntry, Registration: dems.Registration{
				ID: "n4", Address: "host4:7000", Time: time.UnixMilli(0), Cities: dems.DefaultCities().String(),
			}}))
		})
		time.Sleep(2 * pollPause)
		equal(t, []dems.NodeID{"n1", "n2", "n3", "n4"}, h.voters())
	})
}

// A front end that has missed that most of the voters were replaced, one after the other, learns of it from their new lives.
func TestReplacementsThatWereMissed(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.change(func() {
			members := slices.Clone(h.w.members)
			members[0].Incarnation = 1
			for i := 1; i < len(members); i++ {
				members[i].Incarnation, h.node(i+1).life = 2, 2
			}
			h.w.members = members
			h.w.configuration = uint64(len(h.w.log) + 1)
		})
		time.Sleep(2 * pollInterval)
		if reply := h.must(book(1, 1), 0); reply.Asked != 3 {
			t.Errorf("%+v", reply)
		}
		if reply := h.must(getEvent(1), 0); reply.Asked != 3 || reply.Agreeing < 2 {
			t.Errorf("%+v", reply)
		}
	})
}

// A member that is no voter counts neither for nor against.
func TestNonvotersDoNotCount(t *testing.T) {
	ready(t, 3, func(h *harness) {
		var n *fakeNode
		h.w.change(func() { n = h.w.addNode(); h.w.addMember(n, dems.Nonvoter) })
		time.Sleep(2 * pollInterval)
		for _, liar := range []*fakeNode{n, h.node(3)} {
			h.w.tell(liar, lies{results: alterCapacity(1)})
		}
		h.wantVotes(h.must(addEvent(1, 5), 0), 2, 3)
		h.w.setLate(h.node(2), true)
		h.fails(addEvent(2, 5), dems.Indeterminate, requestDeadline)
	})
}

func TestLiarsConfigurationIsNotAdopted(t *testing.T) {
	for name, lie := range map[string]func(*dems.NodeStatus){
		"only itself": func(s *dems.NodeStatus) {
			s.Configuration = 1 << 62
			s.Members = s.Members[:1]
		},
		"strangers": func(s *dems.NodeStatus) {
			s.Configuration = 1 << 62
			for i := range 4 {
				s.Members = append(s.Members, dems.Member{ID: dems.NodeID(fmt.Sprint("x", i)), Address: fmt.Sprint("x:", i), Suffrage: dems.Voter})
			}
		},
		"nobody":           func(s *dems.NodeStatus) { s.Members = nil },
		"nobody votes":     func(s *dems.NodeStatus) { s.Members[1].Suffrage, s.Members[2].Suffrage = dems.None, dems.None },
		"an old one":       func(s *dems.NodeStatus) { s.Configuration = 0 },
		"another's name":   func(s *dems.NodeStatus) { s.ID = "n2" },
		"nobody's name":    func(s *dems.NodeStatus) { s.ID = "" },
		"other addresses":  func(s *dems.NodeStatus) { s.Members[1].Address = "evil:1" },
		"itself as leader": func(s *dems.NodeStatus) { s.Leader, s.Term = s.ID, 1<<62 },
		"no leader":        func(s *dems.NodeStatus) { s.Leader, s.Term = "", 1<<62 },
		"a strange leader": func(s *dems.NodeStatus) { s.Leader, s.Term = "x9", 1<<62 },
		"a huge index":     func(s *dems.NodeStatus) { s.Applied = 1 << 62 },
	} {
		for number := 1; number <= 3; number++ {
			for _, before := range []bool{false, true} {
				t.Run(fmt.Sprint(name, number, before), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						h := &harness{t: t, w: newWorld(t, 3)}
						defer h.stop()
						if before {
							h.node(number).lies.status = lie
						}
						h.core = h.start("fe1")
						h.awaitReady(h.core)
						h.w.tell(h.node(number), lies{status: lie})
						for i := range 5 {
							h.wantView(h.must(addEvent(i, 5), 0), 5, 0)
							h.wantView(h.must(getEvent(i), 0), 5, 0)
							time.Sleep(pollInterval)
						}
						equal(t, []dems.NodeID{"n1", "n2", "n3"}, h.voters())
						if dialled := len(h.w.dialled); dialled != 3 {
							t.Errorf("%d addresses were dialled: %v", dialled, h.w.dialled)
						}
						if v := h.core.members.view(); v.leader == nil || v.leader.name() != "n1" || v.term != 1 {
							t.Errorf("leader %v in term %d", v.leader, v.term)
						}
					})
				})
			}
		}
	}
}

func TestNodeThatIsDownAtTheStartIsMatchedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, w: newWorld(t, 3)}
		defer h.stop()
		h.w.set(h.node(3), dead)
		h.core = h.start("fe1")
		h.awaitReady(h.core)
		if nodes := len(h.core.members.view().nodes); nodes != 3 {
			t.Errorf("%d nodes", nodes)
		}
		h.w.set(h.node(3), up)
		h.w.set(h.node(2), dead)
		time.Sleep(2 * pollInterval)
		h.wantVotes(h.must(addEvent(1, 5), 0), 2, 3)
		if len(h.w.dialled) != 3 || h.w.dialled["host3:7000"] != 1 {
			t.Errorf("dialled %v", h.w.dialled)
		}
	})
}

// Nodes that --nodes does not name are found in the configuration.
func TestNodesAreFoundInTheConfiguration(t *testing.T) {
	ready(t, 5, func(h *harness) {
		equal(t, []dems.NodeID{"n1", "n2", "n3", "n4", "n5"}, h.voters())
		h.w.set(h.node(1), hanging)
		h.w.set(h.node(2), dead)
		h.w.elect(h.node(5))
		h.wantVotes(h.must(addEvent(1, 5), pollTimeout), 3, 5)
	}, func(c *Config) { c.Nodes = c.Nodes[:3] })
}

// One node that answers at two addresses has one vote and one voice.
func TestNodeAtTwoAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, w: newWorld(t, 3)}
		defer h.stop()
		h.w.aliases = map[string]string{"localhost:1": h.node(1).address, "localhost:2": h.node(1).address}
		evil := func(s *dems.NodeStatus) {
			s.Configuration, s.Members = 1<<62, s.Members[:1]
		}
		h.node(1).lies.status = evil
		h.core = h.start("fe1", func(c *Config) { c.Nodes = append([]string{"localhost:1", "localhost:2"}, c.Nodes...) })
		h.awaitReady(h.core)
		equal(t, []dems.NodeID{"n1", "n2", "n3"}, h.voters())
		if reply := h.must(addEvent(1, 5), 0); reply.Asked != 3 || reply.Agreeing > 3 {
			t.Errorf("got %+v", reply)
		}
		status := h.core.Status(context.Background())
		if len(status.Nodes) != 3 {
			t.Errorf("got %+v", status.Nodes)
		}
	})
}

// Another node answers at the address of one that is gone. Its word does not count twice.
func TestAnotherNodeAtTheAddress(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.set(h.node(3), dead)
		h.w.tell(h.node(2), lies{results: alterCapacity(3), answer: func(_ *dems.Query, answer *dems.Answer) {
			answer.Result = dems.AppendResults(nil, []dems.Result{{Event: dems.EventView{Key: testEvent(1), Capacity: 9}}})
		}})
		h.w.change(func() { h.w.aliases = map[string]string{h.node(3).address: h.node(2).address} })
		time.Sleep(2 * pollInterval)
		for _, node := range h.core.Status(context.Background()).Nodes {
			if healthy := node.State == "healthy"; healthy != (node.ID != "n3") {
				t.Errorf("got %+v", node)
			}
		}
		if _, err := h.core.members.statusOf(h.core.members.view().find("n3")); err == nil {
			t.Error("what n2 says is taken for n3's word")
		}
		h.fails(addEvent(1, 5), dems.Indeterminate, requestDeadline)
		h.fails(getEvent(1), dems.Unavailable, requestDeadline)
		h.w.tell(h.node(2), lies{})
		h.wantView(h.must(getEvent(1), time.Second), 5, 0)
	})
}
