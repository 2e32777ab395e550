package cluster

import (
	"os"
	"testing"

	"dems"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		Cleanup()
		os.Exit(code)
	}))
}

func TestClusterStartsAndStops(t *testing.T) {
	c := Start(t, Config{})
	reply := c.OpenSession(7)
	if reply.Vote.Index == 0 {
		t.Fatalf("%+v", reply)
	}
	c.WaitEqual()
	for _, id := range c.IDs() {
		if status := c.Status(id); len(status.Members) != 3 || status.Incarnation != 1 || status.Leader != c.WaitLeader() {
			t.Errorf("%+v", status)
		}
	}
	leader := c.WaitLeader()
	c.StopNode(leader)
	if next := c.WaitLeader(); next == leader {
		t.Fatalf("%s leads after it was stopped", leader)
	}
	c.StartNode(leader)
	c.WaitReady(leader)
	c.WaitEqual()
}

func TestSingleNodeOverUDP(t *testing.T) {
	c := Start(t, Config{Nodes: 1, UDP: true})
	c.OpenSession(7)
	c.KillNode("n1")
	c.StartNode("n1")
	c.WaitReady("n1")
	status, err := c.Replica("n1").Status(t.Context())
	if err != nil || status.Leader != dems.NodeID("n1") {
		t.Fatalf("%+v, %v", status, err)
	}
}
