package verdict_test

import (
	"strings"
	"testing"

	"dems"
	"dems/node/verdict"
)

// cluster returns a view of a leader n1 among voters that all answer.
func cluster(count int) *verdict.View {
	v := &verdict.View{Self: "n1", Members: voters(count), Statuses: map[dems.NodeID]dems.NodeStatus{}}
	for _, member := range v.Members {
		v.Standings = append(v.Standings, dems.Standing{Node: member.ID, Incarnation: 1})
		if member.ID != v.Self {
			v.Statuses[member.ID] = dems.NodeStatus{ID: member.ID, Incarnation: 1, Ready: true}
		}
	}
	return v
}

// stand sets a node's standing.
func stand(v *verdict.View, node int, condition dems.Condition, incarnation, since uint64) {
	s := &v.Standings[node-1]
	s.Condition, s.Incarnation, s.Since = condition, incarnation, since
}

// leave takes a node out of the configuration.
func leave(v *verdict.View, node int) {
	v.Members = append(v.Members[:node-1:node-1], v.Members[node:]...)
}

func TestPlan(t *testing.T) {
	for name, test := range map[string]struct {
		nodes  int
		change func(v *verdict.View)
		want   string // action, node, incarnation, reason
	}{
		"nothing to do":           {3, func(*verdict.View) {}, "wait"},
		"a follower is convicted": {3, func(v *verdict.View) { stand(v, 2, dems.Convicted, 1, 9) }, "remove n2.1"},
		"the leader is convicted": {3, func(v *verdict.View) { stand(v, 1, dems.Convicted, 1, 9) }, "hand over n1.1"},
		"convicted while another is down": {3, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 1, 9)
			delete(v.Statuses, "n3")
		}, "wait n2.1: 1 of the other 2 voters are healthy, 2 are needed"},
		"convicted while another catches up": {3, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 1, 9)
			v.Statuses["n3"] = dems.NodeStatus{ID: "n3", Incarnation: 1}
		}, "wait n2.1: 1 of the other 2 voters are healthy, 2 are needed"},
		"convicted and down itself": {3, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 1, 9)
			delete(v.Statuses, "n2")
		}, "remove n2.1"},
		"five, one convicted and one down": {5, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 1, 9)
			delete(v.Statuses, "n5")
		}, "remove n2.1"},
		"five, one convicted and two down": {5, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 1, 9)
			delete(v.Statuses, "n5")
			delete(v.Statuses, "n4")
		}, "wait n2.1: 2 of the other 4 voters are healthy, 3 are needed"},
		"five, two convicted": {5, func(v *verdict.View) {
			stand(v, 3, dems.Convicted, 1, 9)
			stand(v, 2, dems.Convicted, 1, 10)
		}, "remove n3.1"},
		"one is to be replaced by hand, another one is wrong": {3, func(v *verdict.View) {
			stand(v, 3, dems.Convicted, 1, 9)
			v.Standings[2].ByHand = true
			stand(v, 2, dems.Convicted, 1, 10)
		}, "remove n2.1"},
		"the leader is convicted while another one is replaced": {5, func(v *verdict.View) {
			stand(v, 2, dems.Expelled, 2, 8)
			leave(v, 2)
			stand(v, 1, dems.Convicted, 1, 9)
		}, "hand over n1.1"},
		"two of three are convicted": {3, func(v *verdict.View) {
			stand(v, 3, dems.Convicted, 1, 9)
			stand(v, 2, dems.Convicted, 1, 10)
		}, "wait n3.1: 1 of the other 2 voters are healthy, 2 are needed"},
		"a convicted nonvoter": {3, func(v *verdict.View) {
			stand(v, 2, dems.Convicted, 2, 9)
			v.Members[1].Suffrage, v.Members[1].Incarnation = dems.Nonvoter, 2
			delete(v.Statuses, "n3")
		}, "remove n2.2"},
		"removed and dead": {3, func(v *verdict.View) {
			stand(v, 2, dems.Expelled, 2, 9)
			leave(v, 2)
			delete(v.Statuses, "n2")
		}, "wait n2.2: n2 does not answer"},
		"removed and not emptied": {3, func(v *verdict.View) {
			stand(v, 2, dems.Expelled, 2, 9)
			leave(v, 2)
		}, "wait n2.2: n2 is not emptied yet"},
		"emptied, and then sent entries by a leader that could not add it": {3, func(v *verdict.View) {
			stand(v, 2, dems.Expelled, 2, 9)
			leave(v, 2)
			v.Statuses["n2"] = dems.NodeStatus{ID: "n2", Incarnation: 2}
		}, "add nonvoter n2.2"},
		"emptied": {3, func(v *verdict.View) {
			stand(v, 2, dems.Expelled, 2, 9)
			leave(v, 2)
			v.Statuses["n2"] = dems.NodeStatus{ID: "n2", Incarnation: 2, Fresh: true}
		}, "add nonvoter n2.2"},
		"catching up": {3, func(v *verdict.View) {
			stand(v, 2, dems.Rejoining, 2, 9)
			v.Members[1].Suffrage, v.Members[1].Incarnation = dems.Nonvoter, 2
		}, "compare n2.2"},
		"one at a time": {5, func(v *verdict.View) {
			stand(v, 3, dems.Convicted, 1, 3)
			stand(v, 2, dems.Rejoining, 2, 9)
			v.Members[1].Suffrage, v.Members[1].Incarnation = dems.Nonvoter, 2
		}, "compare n2.2"},
		"in quarantine": {3, func(v *verdict.View) {
			stand(v, 2, dems.Quarantined, 5, 9)
			leave(v, 2)
		}, "wait"},
		"another is in quarantine": {5, func(v *verdict.View) {
			stand(v, 3, dems.Convicted, 1, 10)
			stand(v, 2, dems.Quarantined, 5, 9)
			leave(v, 2)
		}, "remove n3.1"},
		"the only node": {1, func(v *verdict.View) { stand(v, 1, dems.Convicted, 1, 9) }, "hand over n1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			v := cluster(test.nodes)
			test.change(v)
			step := verdict.Plan(v)
			got := step.Action.String()
			if step.Node != "" {
				got += " " + string(step.Node) + "." + string('0'+rune(step.Incarnation))
			}
			if step.Reason != "" {
				got += ": " + step.Reason
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestCannotSpare(t *testing.T) {
	v := cluster(3)
	if reason := v.CannotSpare("n3"); reason != "" {
		t.Errorf("n3 of three healthy ones: %s", reason)
	}
	if reason := v.CannotSpare("n9"); reason != "" {
		t.Errorf("a stranger: %s", reason)
	}
	v.Statuses["n2"] = dems.NodeStatus{ID: "n2", Incarnation: 2, Ready: true}
	if reason := v.CannotSpare("n3"); !strings.Contains(reason, "1 of the other 2") {
		t.Errorf("n2 answers as another life: %q", reason)
	}
	if reason := cluster(1).CannotSpare("n1"); reason == "" {
		t.Error("the only node can be spared")
	}
}

func TestActionNames(t *testing.T) {
	for action := verdict.Wait; action <= verdict.Compare; action++ {
		if action.String() == "unknown" {
			t.Errorf("action %d has no name", action)
		}
	}
	if verdict.Action(99).String() != "unknown" {
		t.Error("an action that is none has a name")
	}
}
