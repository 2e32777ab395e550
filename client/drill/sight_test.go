package drill

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client"
	"dems/client/drill/report"
)

// TestLeaders takes in who leads, in the order in which that is heard.
func TestLeaders(t *testing.T) {
	type heard struct {
		asked, came int // of a picture; asked below 0: of an incident
		node        dems.NodeID
		term        uint64
	}
	for name, test := range map[string]struct {
		heard []heard
		want  []report.Leader
	}{
		"one and then another": {
			[]heard{{0, 1, "n1", 2}, {2, 3, "n1", 2}, {4, 5, "n2", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 5}, {Node: "n2", Term: 3, From: 5}},
		},
		"nobody in between": {
			[]heard{{0, 1, "n1", 2}, {2, 3, "", 0}, {4, 5, "", 0}, {6, 7, "n2", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 3}, {From: 3, To: 7}, {Node: "n2", Term: 3, From: 7}},
		},
		"the same one again": {
			[]heard{{0, 1, "n1", 2}, {2, 3, "", 0}, {4, 5, "n1", 2}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 3}, {From: 3, To: 5}, {Node: "n1", Term: 2, From: 5}},
		},
		"an incident is faster than a picture": {
			[]heard{{0, 1, "n1", 2}, {-1, 3, "n2", 3}, {2, 4, "n1", 2}, {2, 4, "", 0}, {5, 6, "n2", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 3}, {Node: "n2", Term: 3, From: 3}},
		},
		"the same one in a later term": {
			[]heard{{0, 1, "n1", 2}, {-1, 2, "n1", 4}, {-1, 3, "n2", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 2}, {Node: "n1", Term: 4, From: 2}},
		},
		"a picture names the old one in the new term": {
			[]heard{{0, 1, "n1", 2}, {2, 3, "n1", 3}, {-1, 4, "n2", 3}, {2, 5, "n1", 3}, {5, 6, "n2", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 4}, {Node: "n2", Term: 3, From: 4}},
		},
		"a picture names somebody else in the new term": {
			[]heard{{0, 1, "n1", 2}, {2, 3, "n3", 3}, {-1, 4, "n2", 3}, {2, 5, "n3", 3}},
			[]report.Leader{{Node: "n1", Term: 2, From: 1, To: 3}, {Node: "n3", Term: 3, From: 3, To: 4}, {Node: "n2", Term: 3, From: 4}},
		},
		"nobody at first": {
			[]heard{{0, 1, "", 0}, {2, 3, "n1", 2}},
			[]report.Leader{{From: 1, To: 3}, {Node: "n1", Term: 2, From: 3}},
		},
	} {
		var s sight
		for i, h := range test.heard {
			came := time.Duration(h.came) * time.Second
			if h.asked >= 0 {
				s.takeView(&client.ClusterView{Leader: h.node, Term: h.term}, time.Duration(h.asked)*time.Second, came)
				continue
			}
			s.takeIncidents([]client.Incident{{
				Sequence: uint64(i), Kind: "leader-change", Node: h.node, Detail: fmt.Sprintf("leads in term %d", h.term),
			}}, came)
		}
		if diff := cmp.Diff(test.want, s.leaders); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var s sight
	s.takeView(&client.ClusterView{Leader: "n1", Term: 2}, 0, 0)
	s.takeIncidents([]client.Incident{{Kind: "leader-change", Node: "n2", Detail: "in words that are not known"}}, 0)
	if s.leader() != "n1" {
		t.Errorf("%s leads by the word of an incident without a term", s.leader())
	}
}

func TestUnwell(t *testing.T) {
	well := func(id dems.NodeID) client.NodeView {
		return client.NodeView{ID: id, State: healthy, Suffrage: dems.Voter, Applied: 7, Digest: "d"}
	}
	nodes := []dems.NodeID{"n1", "n2"}
	for name, test := range map[string]struct {
		change func(view *client.ClusterView)
		said   string
	}{
		"all is well":              {func(*client.ClusterView) {}, ""},
		"a node is not known":      {func(v *client.ClusterView) { v.Nodes = v.Nodes[:1] }, "n2 is not known"},
		"a node is down":           {func(v *client.ClusterView) { v.Nodes[1].State = "down" }, "n2 is down"},
		"a node is suspected":      {func(v *client.ClusterView) { v.Nodes[0].State = "suspected" }, "n1 is suspected"},
		"a node does not vote":     {func(v *client.ClusterView) { v.Nodes[0].Suffrage = dems.Nonvoter }, "suffrage nonvoter"},
		"a node is behind":         {func(v *client.ClusterView) { v.Nodes[0].Applied = 6 }, "n1 has applied 6 of 7"},
		"there is another node":    {func(v *client.ClusterView) { v.Nodes = append(v.Nodes, well("n3")) }, "there are 3 nodes"},
		"nobody leads":             {func(v *client.ClusterView) { v.Leader = "" }, "no leader is known"},
		"somebody unknown leads":   {func(v *client.ClusterView) { v.Leader = "n9" }, "no leader is known"},
		"the states are different": {func(v *client.ClusterView) { v.Nodes[1].Digest = "e" }, "at index 7 n1 has the state d and n2 has e"},
	} {
		view := client.ClusterView{Leader: "n1", Term: 2, Nodes: []client.NodeView{well("n1"), well("n2")}}
		test.change(&view)
		s := sight{view: view}
		if got := s.unequal(nodes); !strings.Contains(got, test.said) || (got == "") != (test.said == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if problem := (&sight{view: client.ClusterView{}}).unwell(nodes, 0); problem == "" {
		t.Error("a cluster of which nothing is known is well")
	}
}

// TestAgreement compares states at equal indexes, whenever they are seen.
func TestAgreement(t *testing.T) {
	node := func(id dems.NodeID, incarnation, applied uint64, digest string) client.NodeView {
		return client.NodeView{ID: id, Incarnation: incarnation, Applied: applied, Digest: digest}
	}
	var a agreement
	a.take([]client.NodeView{node("n1", 1, 5, "a"), node("n2", 1, 4, "x"), node("n3", 1, 0, "none")})
	a.take([]client.NodeView{node("n1", 1, 6, "b"), node("n2", 1, 5, "a"), node("n3", 1, 4, "x")})
	if a.differ.count != 0 {
		t.Errorf("equal states differ: %q", a.differ.examples)
	}
	a.take([]client.NodeView{node("n3", 1, 6, "c")})
	a.take([]client.NodeView{node("n3", 1, 6, "c"), node("n2", 1, 6, "b")})
	if a.differ.count != 1 || a.differ.examples[0] != "at index 6 n1/1 has the state b and n3/1 has c" {
		t.Errorf("one difference, seen twice: %d, %q", a.differ.count, a.differ.examples)
	}
	a.take([]client.NodeView{node("n3", 1, 7, "right")}) // a moment before it was made wrong
	a.except(life{"n3", 1})
	a.take([]client.NodeView{node("n3", 1, 8, "wrong"), node("n1", 1, 8, "h"), node("n2", 1, 7, "g"), node("n1", 1, 7, "g")})
	if a.differ.count != 1 {
		t.Errorf("who was made wrong counts: %q", a.differ.examples)
	}
	a.take([]client.NodeView{node("n3", 2, 8, "still wrong")})
	if a.differ.count != 2 {
		t.Error("the next life of who was made wrong does not count")
	}
	for index := range uint64(2 * statesKept) {
		a.take([]client.NodeView{node("n1", 1, 100+index, "z")})
	}
	if len(a.states) != statesKept || len(a.indexes) != statesKept {
		t.Errorf("%d states of %d indexes are kept", len(a.states), len(a.indexes))
	}
}

func TestListed(t *testing.T) {
	for want, ids := range map[string][]dems.NodeID{"": nil, "n1": {"n1"}, "n1 and n2": {"n1", "n2"}, "n1, n2 and n3": {"n1", "n2", "n3"}} {
		if got := listed(ids); got != want {
			t.Errorf("%v: %q", ids, got)
		}
	}
}
