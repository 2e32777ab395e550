package report

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dems"
	"dems/client/drill/history"
)

// write and read make operations whose times are in milliseconds.
func write(called, returned int, outcome history.Outcome) history.Operation {
	return operation(dems.BookEvent, called, returned, outcome)
}

func read(called, returned int, outcome history.Outcome) history.Operation {
	return operation(dems.GetEvent, called, returned, outcome)
}

func operation(op dems.Op, called, returned int, outcome history.Outcome) history.Operation {
	return history.Operation{
		Call: time.Duration(called) * time.Millisecond, Return: time.Duration(returned) * time.Millisecond,
		Command: dems.Command{Op: op}, Outcome: outcome,
	}
}

func TestPauses(t *testing.T) {
	const answered, failed, unknown = history.Answered, history.Failed, history.Unknown
	for name, test := range map[string]struct {
		operations []history.Operation
		want       float64 // milliseconds
	}{
		"nothing":             {nil, 0},
		"one that waits":      {[]history.Operation{write(10, 25, answered)}, 15},
		"idle in between":     {[]history.Operation{write(0, 5, answered), write(900, 907, answered)}, 7},
		"others wait already": {[]history.Operation{write(0, 10, answered), write(2, 30, answered)}, 20},
		"many share a pause":  {[]history.Operation{write(0, 50, answered), write(20, 51, answered), write(40, 52, answered)}, 50},
		"a read is no answer": {[]history.Operation{write(0, 50, answered), read(0, 20, answered)}, 50},
		"a refusal is one":    {[]history.Operation{write(0, 20, answered), write(0, 50, answered)}, 30},
		"failures are none": {
			[]history.Operation{write(0, 20, failed), write(0, 30, unknown), write(10, 50, answered)}, 50,
		},
		"all give up and ask again": {
			[]history.Operation{write(0, 2000, unknown), write(0, 2001, unknown), write(2100, 4000, answered)}, 4000,
		},
		"all give up and wait as long as a breath": {
			[]history.Operation{write(0, 2000, unknown), write(3000, 3100, answered)}, 3100,
		},
		"all give up and ask much later": {[]history.Operation{write(0, 2000, unknown), write(3001, 3100, answered)}, 2000},
		"never answered":                 {[]history.Operation{write(0, 10, answered), write(20, 220, unknown)}, 200},
		"given up at the moment of an answer": {
			[]history.Operation{write(0, 10, answered), write(0, 10, unknown), write(100, 101, answered)}, 10,
		},
		"called at the moment of an answer": {[]history.Operation{write(0, 10, answered), write(10, 30, answered)}, 20},
		"returned before it was called":     {[]history.Operation{write(10, 5, answered), write(20, 21, answered)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var r Report
			r.Measure(test.operations)
			if r.Writes.LongestPauseMS != test.want {
				t.Errorf("longest pause %v ms, want %v", r.Writes.LongestPauseMS, test.want)
			}
			for i := range test.operations { // reads are measured alike
				op := &test.operations[i].Command.Op
				if *op == dems.GetEvent {
					*op = dems.BookEvent
				} else {
					*op = dems.GetBookingSchedule
				}
			}
			r.Measure(test.operations)
			if r.Reads.LongestPauseMS != test.want {
				t.Errorf("longest pause of reads %v ms, want %v", r.Reads.LongestPauseMS, test.want)
			}
		})
	}
}

func TestRounds(t *testing.T) {
	operations := []history.Operation{
		write(0, 990, history.Answered),     // before any round
		write(1000, 1001, history.Answered), // just before the first
		write(1400, 2600, history.Answered), // on its way when the first began
		write(1450, 2000, history.Unknown),
		read(1400, 1700, history.Answered),
		read(2900, 4000, history.Answered), // from the first into the second
		write(3600, 5000, history.Failed),
		write(3700, 5200, history.Answered), // after the end of the second
	}
	r := Report{Seconds: 6, Rounds: []Round{
		{At: 1.5, EndedAt: 3},
		{At: 3.5, EndedAt: 0, WritePauseMS: 99, Unanswered: 99}, // until the third begins
		{At: 5.1, EndedAt: 0}, // until the end
		{At: 5.5, EndedAt: 6}, // nothing happened in it
	}}
	r.Measure(operations)
	want := []Round{
		{
			At: 1.5, EndedAt: 3, WritePauseMS: 1100, ReadPauseMS: 200, SlowestWriteMS: 1200, SlowestReadMS: 1100, Unanswered: 1,
		},
		{At: 3.5, WritePauseMS: 1500, ReadPauseMS: 500, SlowestWriteMS: 1500, SlowestReadMS: 1100, Unanswered: 1},
		{At: 5.1, WritePauseMS: 100, SlowestWriteMS: 1500},
		{At: 5.5, EndedAt: 6},
	}
	if difference := gocmp.Diff(want, r.Rounds, cmpopts.EquateApprox(0, 1e-6)); difference != "" {
		t.Error(difference)
	}
}

func TestOutcomesAreCounted(t *testing.T) {
	refused := write(0, 1, history.Answered)
	refused.Result.Code = dems.EventFull
	operations := []history.Operation{
		write(0, 1, history.Answered), read(0, 1, history.Answered), refused, write(0, 1, history.Failed),
		read(0, 1, history.Unknown), write(0, 1, 0),
	}
	var r Report
	for range 2 { // measuring again starts again
		r.Measure(operations)
		want := Operations{Tried: 6, Acknowledged: 2, Refused: 1, Failed: 1, Unknown: 2}
		if r.Operations != want {
			t.Errorf("%+v, want %+v", r.Operations, want)
		}
	}
	if r.Writes.Tried != 4 || r.Writes.Answered != 2 || r.Reads.Tried != 2 || r.Reads.Answered != 1 {
		t.Errorf("writes %+v, reads %+v", r.Writes, r.Reads)
	}
}

func TestSlicesAreFewAndRound(t *testing.T) {
	for seconds, want := range map[float64]struct {
		width float64
		count int
	}{
		0: {0.1, 1}, 0.05: {0.1, 1}, 20: {0.1, 200}, 60: {0.1, 600}, 60.01: {0.2, 301}, 120.1: {0.5, 241}, 300: {0.5, 600},
		3600: {10, 360}, 86400: {200, 432},
	} {
		r := Report{Seconds: seconds}
		r.Measure(nil)
		if got := len(r.Slices); got != want.count {
			t.Errorf("%v s: %d slices, want %d", seconds, got, want.count)
		}
		if got := r.Slices[0].To; got != want.width {
			t.Errorf("%v s: slices of %v s, want %v", seconds, got, want.width)
		}
	}
}

// TestMeasureStaysWithinADrill gives times that no drill has.
func TestMeasureStaysWithinADrill(t *testing.T) {
	for _, seconds := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -5, 1e300} {
		r := Report{Seconds: seconds, Rounds: []Round{{At: seconds, EndedAt: seconds}, {At: 1, EndedAt: seconds}}}
		r.Measure([]history.Operation{
			{Call: math.MinInt64, Return: math.MaxInt64, Outcome: history.Answered}, {Call: math.MaxInt64, Return: math.MinInt64},
		})
		if len(r.Slices) > mostSlices || r.Reads.MaxMS != mostSeconds*1000 {
			t.Errorf("%v s: %d slices, slowest %v ms", seconds, len(r.Slices), r.Reads.MaxMS)
		}
	}
}

// TestMeasureAgainstItsDefinition compares with what the definitions say, computed the slow way.
func TestMeasureAgainstItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		operations := rapid.SliceOfN(rapid.Custom(drawOperation), 0, 40).Draw(t, "operations")
		got := Report{Seconds: rapid.SampledFrom([]float64{0, 5, 12, 500}).Draw(t, "seconds")}
		got.Rounds = rapid.SliceOfN(rapid.Custom(drawRound), 0, 5).Draw(t, "rounds")
		want := got
		want.Rounds = slices.Clone(got.Rounds)
		got.Measure(operations)
		define(&want, operations)
		want.Operations, want.Slices = got.Operations, nil
		slicesGot := got.Slices
		got.Slices = nil
		if difference := gocmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-6)); difference != "" {
			t.Error(difference)
		}
		if difference := gocmp.Diff(defineSlices(slicesGot, operations), slicesGot, cmpopts.EquateApprox(0, 1e-6)); difference != "" {
			t.Error(difference)
		}
	})
}

// drawOperation draws times that coincide often, and that are whole parts of a breath.
func drawOperation(t *rapid.T) history.Operation {
	const unit = 100
	called := rapid.IntRange(0, 60).Draw(t, "called") * unit
	op := rapid.SampledFrom([]dems.Op{dems.BookEvent, dems.GetEvent}).Draw(t, "op")
	outcome := rapid.SampledFrom([]history.Outcome{history.Answered, history.Failed, history.Unknown}).Draw(t, "outcome")
	return operation(op, called, called+rapid.IntRange(0, 20).Draw(t, "took")*unit, outcome)
}

func drawRound(t *rapid.T) Round {
	at := rapid.IntRange(0, 70).Draw(t, "at")
	ended := at + rapid.IntRange(0, 30).Draw(t, "ended after")
	if rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
		ended = 0
	}
	return Round{At: float64(at) / 10, EndedAt: float64(ended) / 10}
}

// define is Measure as the definitions have it.
func define(r *Report, operations []history.Operation) {
	for _, o := range operations {
		r.Seconds = max(r.Seconds, o.Return.Seconds())
	}
	of := func(mutates bool) (list []history.Operation) {
		for _, o := range operations {
			if o.Command.Op.Mutates() == mutates {
				list = append(list, o)
			}
		}
		return list
	}
	service := func(list []history.Operation) Service {
		latencies := latenciesOf(list)
		return Service{
			Tried: uint64(len(list)), Answered: uint64(len(latencies)), P50MS: rank(latencies, 0.5), P99MS: rank(latencies, 0.99),
			P999MS: rank(latencies, 0.999), MaxMS: rank(latencies, 1), LongestPauseMS: definePause(list, 0, math.MaxInt64),
		}
	}
	r.Writes, r.Reads = service(of(true)), service(of(false))
	for i := range r.Rounds {
		round := &r.Rounds[i]
		from, to := duration(round.At), duration(round.EndedAt)
		if round.EndedAt == 0 {
			to = defineEnd(r, i)
		}
		round.WritePauseMS, round.ReadPauseMS = definePause(of(true), from, to), definePause(of(false), from, to)
		for _, o := range operations {
			switch onItsWay := o.Call < to && o.Return > from; {
			case !onItsWay:
			case o.Outcome != history.Answered:
				round.Unanswered++
			case o.Command.Op.Mutates():
				round.SlowestWriteMS = max(round.SlowestWriteMS, milliseconds(o.Return-o.Call))
			default:
				round.SlowestReadMS = max(round.SlowestReadMS, milliseconds(o.Return-o.Call))
			}
		}
	}
}

// defineEnd returns when a round without an end ends: when the next one begins, or with the drill.
func defineEnd(r *Report, i int) time.Duration {
	next := math.Inf(1)
	for j, round := range r.Rounds {
		if round.At > r.Rounds[i].At || round.At == r.Rounds[i].At && j > i {
			next = min(next, round.At)
		}
	}
	if math.IsInf(next, 1) {
		next = r.Seconds
	}
	return duration(next)
}

// definePause looks at each time between two answers: when did somebody wait in it, with what breath in between?
func definePause(operations []history.Operation, from, to time.Duration) float64 {
	bounds := []time.Duration{math.MinInt64, math.MaxInt64}
	for _, o := range operations {
		if o.Outcome == history.Answered {
			bounds = append(bounds, o.Return)
		}
	}
	slices.Sort(bounds)
	longest := time.Duration(0)
	for i := range bounds[1:] {
		var waits [][2]time.Duration
		for _, o := range operations {
			if o.Call <= bounds[i+1] && o.Return > bounds[i] {
				waits = append(waits, [2]time.Duration{max(o.Call, bounds[i]), min(o.Return, bounds[i+1])})
			}
		}
		slices.SortFunc(waits, func(a, b [2]time.Duration) int { return cmp.Compare(a[0], b[0]) })
		for len(waits) > 0 {
			pause := waits[0]
			for waits = waits[1:]; len(waits) > 0 && waits[0][0] <= pause[1]+time.Second; waits = waits[1:] {
				pause[1] = max(pause[1], waits[0][1])
			}
			longest = max(longest, min(pause[1], to)-max(pause[0], from))
		}
	}
	return milliseconds(longest)
}

func latenciesOf(operations []history.Operation) (latencies []float64) {
	for _, o := range operations {
		if o.Outcome == history.Answered {
			latencies = append(latencies, milliseconds(o.Return-o.Call))
		}
	}
	return latencies
}

// rank returns the smallest latency that at least the part of all do not exceed.
func rank(latencies []float64, part float64) float64 {
	best := math.Inf(1)
	for _, candidate := range latencies {
		within := 0
		for _, latency := range latencies {
			if latency <= candidate {
				within++
			}
		}
		if float64(within) >= part*float64(len(latencies)) {
			best = min(best, candidate)
		}
	}
	if len(latencies) == 0 {
		return 0
	}
	return best
}

// defineSlices forms the timeline again, with the bounds that it has.
func defineSlices(timeline []Slice, operations []history.Operation) []Slice {
	var want []Slice
	for i, slice := range timeline {
		slice = Slice{From: slice.From, To: slice.To}
		var inside []history.Operation
		for _, o := range operations {
			at := o.Return.Seconds()
			if at < slice.From-1e-9 || at >= slice.To-1e-9 && i < len(timeline)-1 {
				continue
			}
			inside = append(inside, o)
			latency := milliseconds(o.Return - o.Call)
			switch {
			case o.Outcome != history.Answered:
				slice.Failed++
			case o.Command.Op.Mutates():
				slice.Writes++
				slice.WriteMS = max(slice.WriteMS, latency)
			default:
				slice.Reads++
				slice.ReadMS = max(slice.ReadMS, latency)
			}
		}
		slice.P50MS, slice.P99MS = rank(latenciesOf(inside), 0.5), rank(latenciesOf(inside), 0.99)
		want = append(want, slice)
	}
	return want
}

// million is a history of a million operations of 64 clients, over ten minutes with 200 rounds.
func million() ([]history.Operation, []Round) {
	const clients, count, seconds, rounds = 64, 1_000_000, 600, 200
	random := rand.New(rand.NewPCG(1, 2))
	operations := make([]history.Operation, 0, count)
	for client := range clients {
		now := time.Duration(0)
		for range count / clients {
			took := time.Duration(random.ExpFloat64() * float64(seconds*clients*time.Second/count))
			op := dems.GetEvent
			if random.IntN(2) == 0 {
				op = dems.BookEvent
			}
			operations = append(operations, history.Operation{
				Client: client, Call: now, Return: now + took, Command: dems.Command{Op: op}, Outcome: history.Answered,
			})
			now += took
		}
	}
	slices.SortFunc(operations, func(a, b history.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var list []Round
	for i := range rounds {
		at := float64(i) * seconds / rounds
		list = append(list, Round{At: at, EndedAt: at + 2})
	}
	return operations, list
}

func BenchmarkMeasure(b *testing.B) {
	operations, rounds := million()
	r := Report{Rounds: rounds}
	b.ReportAllocs()
	for b.Loop() {
		r.Measure(operations)
	}
}
