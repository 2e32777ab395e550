package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The load while leaders are killed: what demsctl drill does unless told otherwise.
const (
	killClients = 24
	killRate    = 400 // bookings that begin in a second, all clients together
	killEvents  = 100
	// attemptTimeout is after how long a client asks again, another member too: a proposal that a dead leader took along is
	// answered by nobody, and etcd's servers say so only after seven seconds.
	attemptTimeout = 250 * time.Millisecond
	// settledAnswers is after how many bookings, once everything is healthy again, a kill is over.
	settledAnswers = 200
	healthyTimeout = 30 * time.Second
	watchInterval  = 20 * time.Millisecond
)

// sample is one acknowledged booking, from when its client began to wait.
type sample struct{ begin, end time.Time }

// kills is what killing leaders did to one system, milliseconds. A pause is the longest time after one kill in which clients
// waited and no booking was acknowledged.
type kills struct {
	System  string    `json:"system"`
	Pauses  []float64 `json:"pauseMilliseconds"`
	Failed  int       `json:"failed"`  // bookings of which the client does not know what became
	Checked string    `json:"checked"` // what was checked at the end
}

// runKills kills the leader of a DEMS cluster and of an etcd cluster, one after the other, both under the same load.
func runKills(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp(s.dir, "dems-kills-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &beside{settings: s, stderr: stderr, bin: filepath.Join(dir, "bin")}
	if err := b.build(ctx); err != nil {
		return err
	}
	dems, err := b.drill(ctx, filepath.Join(dir, "dems"))
	if err != nil {
		return err
	}
	etcd, err := killEtcd(ctx, s, filepath.Join(dir, "etcd"), stderr)
	if err != nil {
		return err
	}
	if s.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode([]kills{dems, etcd})
	}
	return writeKills(stdout, dems, etcd)
}

// drill has demsctl kill the leaders of a development cluster.
func (b *beside) drill(ctx context.Context, dir string) (kills, error) {
	result := kills{System: "DEMS"}
	data := filepath.Join(dir, "data")
	err := b.withDEMS(ctx, data, func(url string) error {
		args := []string{"drill", "leader-kill", "--endpoint", url, "--data-dir", data, "--keep", filepath.Join(dir, "kept"), "-o", "json",
			"--rounds", strconv.Itoa(b.kills), "--clients", strconv.Itoa(killClients), "--rate", strconv.Itoa(killRate)}
		command := exec.CommandContext(ctx, filepath.Join(b.bin, "demsctl"), args...)
		var output bytes.Buffer
		command.Stdout, command.Stderr = &output, b.stderr
		if err := command.Run(); err != nil {
			return fmt.Errorf("demsctl drill: %w", err)
		}
		var report struct {
			Operations struct{ Failed, Unknown int }
			Rounds     []struct{ WritePauseMilliseconds float64 }
		}
		if err := json.Unmarshal(output.Bytes(), &report); err != nil {
			return fmt.Errorf("demsctl drill: %w", err)
		}
		for _, round := range report.Rounds {
			result.Pauses = append(result.Pauses, round.WritePauseMilliseconds)
		}
		result.Failed = report.Operations.Failed + report.Operations.Unknown
		result.Checked = "every answer: linearizable, nothing lost, doubled or oversold"
		return nil
	})
	return result, err
}

// killEtcd kills the leaders of an etcd cluster.
func killEtcd(ctx context.Context, s settings, dir string, stderr io.Writer) (result kills, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return result, err
	}
	fmt.Fprintln(stderr, "starting three etcd members")
	cluster, err := startCluster(ctx, dir, stderr)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()
	traffic, err := newTraffic(ctx, cluster.endpoints())
	if err != nil {
		return result, err
	}
	defer traffic.close()
	loading, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, c := range traffic.clients {
		running.Go(func() { c.run(loading) })
	}
	if err := traffic.waitFor(ctx, settledAnswers); err != nil {
		return result, err
	}
	result = kills{System: "etcd", Checked: "seats taken against bookings acknowledged"}
	for number := range s.kills {
		pause, err := traffic.kill(ctx, cluster, stderr)
		if err != nil {
			return result, fmt.Errorf("kill %d: %w", number+1, err)
		}
		result.Pauses = append(result.Pauses, milliseconds(pause))
		fmt.Fprintf(stderr, "etcd: kill %d of %d, no booking acknowledged for %v\n", number+1, s.kills, pause.Round(time.Millisecond))
	}
	stop()
	running.Wait()
	result.Failed, err = traffic.check(ctx)
	return result, err
}

// traffic is the clients of an etcd cluster.
type traffic struct {
	load    load
	clients []*killClient
}

// killClient books again and again, each booking as often as it takes.
type killClient struct {
	worker
	unknown int // bookings that it had to give up

	mu      sync.Mutex
	samples []sample
	waiting time.Time // since when; zero: it does not wait
}

func newTraffic(ctx context.Context, endpoints []string) (*traffic, error) {
	t := &traffic{load: load{name: "kills", events: killEvents, settings: settings{read: "serializable"}}}
	for number := range killClients {
		client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: startTimeout})
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.clients = append(t.clients, &killClient{worker: worker{load: &t.load, number: number, client: client}})
	}
	if err := t.load.prepare(ctx, t.clients[0].client); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *traffic) close() error {
	var failed error
	for _, c := range t.clients {
		failed = errors.Join(failed, c.client.Close())
	}
	return failed
}

// run books at the client's part of the rate until the context ends.
func (c *killClient) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second * killClients / killRate)
	defer ticker.Stop()
	for number := 0; ctx.Err() == nil; number++ {
		begin := time.Now()
		c.wait(begin)
		event := c.load.eventKey((c.number*7919 + number*104729) % c.load.events)
		if c.bookOnce(context.WithoutCancel(ctx), event, fmt.Sprintf("kills/bookings/c%d-%d", c.number, number)) {
			c.booked++
			c.acknowledge(sample{begin, time.Now()})
		} else {
			c.unknown++
		}
		c.wait(time.Time{})
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// bookOnce books, and asks again until it is certain that the seat is taken once; false where the time was up.
func (c *killClient) bookOnce(ctx context.Context, event, booking string) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for ctx.Err() == nil {
		attempt, cancelAttempt := context.WithTimeout(ctx, attemptTimeout)
		_, err := c.book(attempt, event, booking)
		cancelAttempt()
		if err == nil || errors.Is(err, errBookedBefore) {
			return true
		}
	}
	return false
}

func (c *killClient) wait(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = since
}

func (c *killClient) acknowledge(s sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = append(c.samples, s)
}

// acknowledged counts the bookings acknowledged since a time.
func (t *traffic) acknowledged(since time.Time) int {
	count := 0
	for _, c := range t.clients {
		c.mu.Lock()
		for i := len(c.samples) - 1; i >= 0 && c.samples[i].end.After(since); i-- {
			count++
		}
		c.mu.Unlock()
	}
	return count
}

// waitFor waits until so many bookings were acknowledged from now on.
func (t *traffic) waitFor(ctx context.Context, count int) error {
	since := time.Now()
	return poll(ctx, "bookings", func() bool { return t.acknowledged(since) >= count })
}

// poll waits until a condition holds.
func poll(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// kill kills the leader, starts it again at once, as a supervisor would, and returns the pause.
func (t *traffic) kill(ctx context.Context, cluster *cluster, stderr io.Writer) (time.Duration, error) {
	var leader *member
	if err := poll(ctx, "a leader", func() bool { leader = t.leader(ctx, cluster); return leader != nil }); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := leader.kill(); err != nil {
		return 0, err
	}
	if err := leader.restart(ctx, stderr); err != nil {
		return 0, err
	}
	if err := poll(ctx, "three healthy members", func() bool { return t.leader(ctx, cluster) != nil }); err != nil {
		return 0, err
	}
	if err := t.waitFor(ctx, settledAnswers); err != nil {
		return 0, err
	}
	return t.pause(begin, time.Now()), nil
}

// leader returns the member that leads, where all members answer and agree; otherwise nil.
func (t *traffic) leader(ctx context.Context, cluster *cluster) *member {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var leader *member
	agreed := uint64(0)
	for _, m := range cluster.members {
		status, err := t.clients[0].client.Status(ctx, m.client)
		if err != nil || status.Leader == 0 || agreed != 0 && status.Leader != agreed {
			return nil
		}
		if agreed = status.Leader; status.Header.MemberId == status.Leader {
			leader = m
		}
	}
	return leader
}

// pause returns the longest time between two moments in which clients waited and no booking was acknowledged.
func (t *traffic) pause(from, to time.Time) time.Duration {
	var samples []sample
	for _, c := range t.clients {
		c.mu.Lock()
		samples = append(samples, c.samples...)
		if !c.waiting.IsZero() {
			samples = append(samples, sample{c.waiting, to})
		}
		c.mu.Unlock()
	}
	return longestPause(samples, from, to)
}

// longestPause looks at every gap between two acknowledgements: it counts from when the first client waited in it.
func longestPause(samples []sample, from, to time.Time) time.Duration {
	slices.SortFunc(samples, func(a, b sample) int { return a.end.Compare(b.end) })
	longest, last := time.Duration(0), from
	waiting := to // the earliest begin of what ends at i or later
	earliest := make([]time.Time, len(samples))
	for i := len(samples) - 1; i >= 0; i-- {
		if samples[i].begin.Before(waiting) {
			waiting = samples[i].begin
		}
		earliest[i] = waiting
	}
	for i, s := range samples {
		if s.end.Before(from) {
			continue
		}
		begin := last
		if earliest[i].After(begin) {
			begin = earliest[i]
		}
		end := s.end
		if end.After(to) {
			end = to
		}
		longest = max(longest, end.Sub(begin))
		last = end
	}
	return longest
}

// check compares the seats taken with the bookings that are there, and those with what was acknowledged.
func (t *traffic) check(ctx context.Context) (unknown int, err error) {
	acknowledged := 0
	for _, c := range t.clients {
		acknowledged += c.booked
		unknown += c.unknown
	}
	seats, err := t.load.seats(ctx, t.clients[0].client)
	if err != nil {
		return 0, err
	}
	if seats < acknowledged || seats > acknowledged+unknown {
		return 0, fmt.Errorf("etcd: %d seats taken, %d bookings acknowledged, %d unknown", seats, acknowledged, unknown)
	}
	return unknown, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func writeKills(w io.Writer, all ...kills) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "leader killed\ttimes\tpause p50\tp90\tlongest\tfailed\tchecked")
	for _, k := range all {
		sorted := slices.Sorted(slices.Values(k.Pauses))
		at := func(share float64) string { return fmt.Sprintf("%.0f ms", percentile(durations(sorted), share)) }
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%d\t%s\n", k.System, len(sorted), at(0.5), at(0.9), at(1), k.Failed, k.Checked)
	}
	return table.Flush()
}

func durations(milliseconds []float64) []time.Duration {
	all := make([]time.Duration, len(milliseconds))
	for i, ms := range milliseconds {
		all[i] = time.Duration(ms * float64(time.Millisecond))
	}
	return all
}
