//go:build linux

package test

import (
	"fmt"
	random "math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// chaos is failures that correct nodes suffer, one after the other, while clients write and read.
type chaos struct {
	*handCluster
	traffic *traffic
	random  *random.Rand
	counts  map[string]int
}

// failure is something that happens to a node and, when it returns, is over.
type failure struct {
	name   string
	happen func(c *chaos, victim string)
}

var failures = []failure{
	{"killed", func(c *chaos, victim string) {
		c.kill(victim)
		c.lasts()
		c.start(victim)
	}},
	{"killed and started at once", func(c *chaos, victim string) {
		c.kill(victim)
		c.start(victim)
	}},
	{"restarted", func(c *chaos, victim string) { c.restart(victim) }},
	{"stopped", func(c *chaos, victim string) {
		resume := c.suspend(victim)
		c.lasts()
		resume()
	}},
	{"stuttering", (*chaos).stutter},
	{"slow", func(c *chaos, victim string) {
		c.fault(victim, "slow", map[string]any{"milliseconds": 20 + c.random.IntN(400)})
		c.lasts()
		c.mustSend(http.MethodDelete, "/v1/faults", nil)
	}},
	{"mute", func(c *chaos, victim string) {
		c.fault(victim, "mute")
		c.lasts()
		c.mustSend(http.MethodDelete, "/v1/faults", nil)
	}},
	{"cut off", func(c *chaos, victim string) {
		c.links.isolate(victim, c.processes())
		c.lasts()
		c.links.heal()
	}},
	{"not heard", func(c *chaos, victim string) {
		for _, other := range c.processes() {
			c.links.lose(victim, other)
		}
		c.lasts()
		c.links.heal()
	}},
	{"not hearing", func(c *chaos, victim string) {
		for _, other := range c.processes() {
			c.links.lose(other, victim)
		}
		c.lasts()
		c.links.heal()
	}},
	{"cut off from the front end", func(c *chaos, victim string) {
		c.links.isolate(victim, []string{"fe1"})
		c.lasts()
		c.links.heal()
	}},
	{"cut off from one node", func(c *chaos, victim string) {
		other := c.nodes[c.random.IntN(len(c.nodes))]
		c.links.isolate(victim, []string{other})
		c.lasts()
		c.links.heal()
	}},
}

// diskFailures take disks of their own.
var diskFailures = []failure{
	{"slow disk", func(c *chaos, victim string) { c.slowDisk(victim, c.lasts) }},
	{"hanging disk", func(c *chaos, victim string) {
		thaw := c.freeze(victim)
		c.lasts()
		thaw()
	}},
}

// longestFailure bounds how long a failure lasts: no request may wait longer than a front end does for a majority.
const longestFailure = 3 * time.Second

// lasts returns when a failure has lasted long enough: some answers long, which is short or long in time.
func (c *chaos) lasts() {
	target := c.traffic.done.Load() + int64((50+c.random.IntN(1000))*len(c.traffic.writers)/trafficWriters)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for begin := time.Now(); c.traffic.done.Load() < target && time.Since(begin) < longestFailure; {
		<-ticker.C
	}
}

// stutter stops a node for moments, again and again.
func (c *chaos) stutter(victim string) {
	pid := c.child(victim).command.Process.Pid
	ticker := time.NewTicker(time.Duration(10+c.random.IntN(90)) * time.Millisecond)
	defer ticker.Stop()
	for range 10 {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		<-ticker.C
		_ = syscall.Kill(pid, syscall.SIGCONT)
		<-ticker.C
	}
}

// restart ends a node as an operator does and starts it again.
func (c *handCluster) restart(name string) {
	c.t.Helper()
	if err := c.child(name).end(syscall.SIGTERM); err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	c.start(name)
}

// TestCorrectNodesAreNeverConvicted has everything happen to the nodes that is not their fault, and restarts all of them
// one after the other. Nobody is accused, no request fails, no answer is wrong.
func TestCorrectNodesAreNeverConvicted(t *testing.T) {
	kinds := failures
	start := startLinked
	if canMount() {
		kinds, start = append(kinds[:len(kinds):len(kinds)], diskFailures...), startOnDisks
	} else {
		t.Log("without slow and hanging disks: this machine lets the tests mount nothing")
	}
	seed := random.Uint64()
	t.Logf("seed %d", seed)
	c := &chaos{handCluster: start(t, 3), random: random.New(random.NewPCG(seed, 0)), counts: map[string]int{}}
	c.traffic = newTraffic(t, scale(trafficWriters, 8*trafficWriters), c.rest())
	begin := time.Now()
	c.traffic.start()
	happening := ""
	defer func() {
		if t.Failed() {
			t.Logf("happening last: %s", happening)
		}
	}()
	wanted := scale[int64](20_000, 1_000_000)
	order := c.random.Perm(len(kinds))
	for number := 0; number < len(order) || c.traffic.done.Load() < wanted; number++ {
		happens := kinds[order[number%len(order)]]
		victim := c.nodes[c.random.IntN(len(c.nodes))]
		c.waitHealthy(60 * time.Second)
		if t.Failed() {
			break
		}
		happening = fmt.Sprintf("%s %s at %s", victim, happens.name, time.Now().Format("15:04:05.000"))
		happens.happen(c, victim)
		c.counts[happens.name]++
	}
	for _, name := range c.nodes {
		c.waitHealthy(60 * time.Second)
		c.restart(name)
	}
	c.waitHealthy(60 * time.Second)
	c.traffic.finish()
	c.traffic.verify()
	c.traffic.expectClean()
	c.expectNobodyPunished()
	text := ""
	for _, kind := range kinds {
		text += fmt.Sprintf(", %s %d", kind.name, c.counts[kind.name])
	}
	t.Logf("%d answers in %v; all nodes restarted in turn%s; %v", c.traffic.done.Load(), time.Since(begin).Round(time.Second), text,
		c.traffic.between(begin, time.Now()))
}
