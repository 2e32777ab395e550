package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"dems"
)

// TestAgainstModel applies random batches to two machines and to the model. After every entry the results are the
// model's, the two machines agree in everything, and the digest is that of the records. One of the machines is now and
// then replaced by one restored from a snapshot, and snapshots are written again long after they were taken.
func TestAgainstModel(t *testing.T) {
	const operations = 100_000 / slowdown
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c := newComparison(t, seed)
			for c.operations < operations/4 {
				c.step()
			}
			c.enough()
		})
	}
}

// enough checks that everything happened often enough to mean something.
func (c *comparison) enough() {
	for code := dems.OK; code <= dems.IdempotencyKeyReused; code++ {
		switch code {
		case dems.MalformedRequest, dems.Unauthenticated, dems.NotFound, dems.MethodNotAllowed, dems.PayloadTooLarge,
			dems.UnsupportedMediaType: // not of the state machine, or not of what can be encoded
		default:
			if c.codes[code] == 0 {
				c.t.Errorf("%s never happened", code)
			}
		}
	}
	if most := c.operations / 10; c.codes[dems.OK] < most || c.replays < most/100 || c.checked < 5 {
		c.t.Errorf("%d successes, %d replays, %d snapshots of %d operations", c.codes[dems.OK], c.replays, c.checked, c.operations)
	}
}

// comparison is two machines and the model that are given the same commands.
type comparison struct {
	t      *testing.T
	random *rand.Rand
	model  *model
	first  *Machine
	second *Machine
	index  uint64
	batch  uint64
	now    time.Time
	last   []byte                   // entry
	keyed  []dems.Command           // recent ones
	logs   map[dems.City]cityLog    // as the records make them
	seen   map[dems.Command]version // the last answer to each query
	held   []heldSnapshot

	operations, replays, checked int
	codes                        map[dems.Code]int
}

type cityLog struct {
	records uint64
	chain   dems.Digest
}

type version struct {
	number uint64
	result []byte
}

type heldSnapshot struct {
	snapshot *Snapshot
	digest   dems.Digest
	index    uint64
	written  []byte
}

const comparedKeys = 64 // how many keys the machines and the model remember

func newComparison(t *testing.T, seed uint64) *comparison {
	c := &comparison{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), model: newModel(comparedKeys), now: testTime,
		first: New(dems.DefaultCities()), second: New(dems.DefaultCities()),
		logs: map[dems.City]cityLog{}, seen: map[dems.Command]version{}, codes: map[dems.Code]int{},
	}
	c.first.limits.keys, c.second.limits.keys = comparedKeys, comparedKeys
	c.apply(&dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: testSession}})
	return c
}

// apply applies an entry to both machines and compares them.
func (c *comparison) apply(entry *dems.Entry) Applied {
	c.t.Helper()
	c.index += 1 + c.random.Uint64N(3) // Raft has entries of its own in between
	data := dems.AppendEntry(nil, entry)
	c.last = data
	return c.applyData(data)
}

func (c *comparison) applyData(data []byte) Applied {
	c.t.Helper()
	first, err := c.first.Apply(c.index, data)
	if err != nil {
		c.t.Fatal(err)
	}
	second, err := c.second.Apply(c.index, data)
	if err != nil {
		c.t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		c.t.Fatalf("at %d the machines differ:\n%+v\n%+v", c.index, first, second)
	}
	if computed := c.first.Recompute(); computed != first.StateDigest || computed != c.first.Digest() {
		c.t.Fatalf("at %d the digest is %s and its records have %s", c.index, first.StateDigest, computed)
	}
	return first
}

func (c *comparison) step() {
	c.t.Helper()
	commands := make([]dems.Command, 1+c.random.IntN(20))
	for i := range commands {
		commands[i] = c.command()
	}
	c.batch++
	applied := c.apply(&dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: testSession, Number: c.batch, Commands: commands,
	}})
	c.compareResults(commands, applied.Results)
	c.compareLogs(applied.Records)
	c.compareQueries()
	if c.batch%16 == 0 {
		if err := c.first.CheckInvariants(); err != nil {
			c.t.Fatal(err)
		}
	}
	if c.random.IntN(20) == 0 {
		c.proposeAgain(applied)
	}
	c.handleSnapshots()
}

func (c *comparison) compareResults(commands []dems.Command, encoded []byte) {
	c.t.Helper()
	results, err := dems.DecodeResults(encoded)
	if err != nil || len(results) != len(commands) {
		c.t.Fatalf("%d results of %d commands: %v", len(results), len(commands), err)
	}
	for i := range commands {
		var want dems.Result
		if code := c.first.Cities().Check(&commands[i]); code != dems.OK {
			want = dems.Result{Code: code, Sequence: c.index}
			c.model.now = later(c.model.now, commands[i].Time)
		} else {
			want = c.model.apply(c.index, commands[i])
		}
		if !reflect.DeepEqual(results[i], want) {
			c.t.Fatalf("at %d, command %d: %+v\ngives %+v\nbut by the model %+v", c.index, i, commands[i], results[i], want)
		}
		c.operations++
		c.codes[want.Code]++
		if want.Replayed {
			c.replays++
		}
	}
	c.model.endOfBatch()
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// compareLogs checks that records are numbered and chained as the state says.
func (c *comparison) compareLogs(records []Record) {
	c.t.Helper()
	for _, record := range records {
		log := c.logs[record.City]
		if record.Number != log.records {
			c.t.Fatalf("record %d of %s after %d records", record.Number, record.City, log.records)
		}
		c.logs[record.City] = cityLog{log.records + 1, ChainRecord(log.chain, record.Line)}
	}
	for _, named := range c.first.Cities() {
		count, chain := c.first.CityLog(named.City)
		if (cityLog{count, chain}) != c.logs[named.City] {
			c.t.Fatalf("the log of %s has %d records and chain %s, the state says %d and %s", named.City,
				c.logs[named.City].records, c.logs[named.City].chain, count, chain)
		}
	}
}

// compareQueries asks something and checks that equal versions mean equal answers, and that versions never go back.
func (c *comparison) compareQueries() {
	c.t.Helper()
	for range 3 {
		query := dems.Command{Op: dems.GetBookingSchedule, By: c.manager(), Customer: c.customer()}
		switch c.random.IntN(3) {
		case 0:
			query = dems.Command{Op: dems.GetEvent, By: c.manager(), Event: c.event()}
		case 1:
			query = dems.Command{Op: dems.ListEventAvailability, By: c.manager()}
			query.Event.Type = dems.EventTypes[c.random.IntN(3)]
		}
		answer := c.first.Query(&dems.Query{Kind: dems.OperationQuery, Command: query})
		if other := c.second.Query(&dems.Query{Kind: dems.OperationQuery, Command: query}); !reflect.DeepEqual(answer, other) {
			c.t.Fatalf("at %d %+v gives %v and %v", c.index, query, answer, other)
		}
		want := dems.AppendResults(nil, []dems.Result{c.model.execute(query)})
		if !bytes.Equal(answer.Result, want) {
			c.t.Fatalf("at %d %+v gives %v and by the model %v", c.index, query, answer.Result, want)
		}
		before := c.seen[query]
		if answer.Version < before.number || answer.Version > c.index {
			c.t.Fatalf("at %d %+v has version %d after %d", c.index, query, answer.Version, before.number)
		}
		if before.result != nil && answer.Version == before.number && !bytes.Equal(answer.Result, before.result) {
			c.t.Fatalf("at %d %+v has another answer with the same version %d", c.index, query, answer.Version)
		}
		c.seen[query] = version{answer.Version, answer.Result}
	}
}

// proposeAgain applies the last batch once more, under a new index, as after a lost answer.
func (c *comparison) proposeAgain(last Applied) {
	c.t.Helper()
	c.index++
	again := c.applyData(c.last)
	if !bytes.Equal(again.Results, last.Results) || len(again.Records) != 0 {
		c.t.Fatalf("batch %d proposed again gave other results, or %d records", last.Batch, len(again.Records))
	}
}

// handleSnapshots takes snapshots, writes old ones again, and puts a restored machine into the place of the second.
func (c *comparison) handleSnapshots() {
	c.t.Helper()
	if c.random.IntN(25) == 0 {
		s := c.first.Snapshot()
		c.held = append(c.held, heldSnapshot{s, c.first.Digest(), c.index, snapshotBytes(c.t, s)})
		if c.random.IntN(2) == 0 {
			restored, err := Restore(bytes.NewReader(c.held[len(c.held)-1].written), c.first.Cities())
			if err != nil {
				c.t.Fatal(err)
			}
			restored.limits.keys = comparedKeys
			c.second = restored
		}
	}
	if len(c.held) > 0 && c.random.IntN(25) == 0 {
		at := c.random.IntN(len(c.held))
		h := c.held[at]
		if h.snapshot.Index() != h.index || h.snapshot.Digest() != h.digest || h.snapshot.Recompute() != h.digest {
			c.t.Fatalf("the snapshot at %d changed by %d", h.index, c.index)
		}
		if !bytes.Equal(snapshotBytes(c.t, h.snapshot), h.written) {
			c.t.Fatalf("the snapshot at %d is written differently at %d", h.index, c.index)
		}
		c.held[at] = c.held[len(c.held)-1]
		c.held = c.held[:len(c.held)-1]
		c.checked++
	}
}
