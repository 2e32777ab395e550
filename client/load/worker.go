package load

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	shortestBackoff = 10 * time.Millisecond // after a failure, so that a dead front end is not hammered
	longestBackoff  = 500 * time.Millisecond
	longestLatency  = 10 * time.Minute
)

// course is what all workers of a load share.
type course struct {
	config    Config
	stage     *stage
	endpoints []endpoint
	begin     time.Time
	counted   time.Time     // operations that begin from then on count
	end       time.Time     // none begins from then on
	issued    atomic.Uint64 // with a rate: how many operations were given out
	begun     atomic.Uint64 // with a number of operations: how many that count were
}

// worker is one connection and what came over it. It is used by one goroutine; the three counters may be read by others.
type worker struct {
	*course
	number     int
	random     *rand.Rand
	endpoint   int // index of the one in use
	connection *connection
	request    []byte
	key        []byte
	keys       uint64
	backoff    time.Duration

	succeeded, refused, failed atomic.Uint64 // warm-up included

	// What counted:
	last      time.Time // when the last operation ended
	latencies [kinds]*hdrhistogram.Histogram
	slowest   [kinds]time.Duration
	refusals  map[string]uint64
	failures  map[string]uint64
}

func newWorker(course *course, number int, seed uint64) *worker {
	return &worker{
		course:   course,
		number:   number,
		random:   rand.New(rand.NewPCG(seed, uint64(number)+1)),
		endpoint: number % len(course.endpoints),
		refusals: make(map[string]uint64),
		failures: make(map[string]uint64),
	}
}

// run does operations until the course or ctx ends.
func (w *worker) run(ctx context.Context) {
	defer w.disconnect()
	for ctx.Err() == nil {
		start, ok := w.start(ctx)
		if !ok {
			return
		}
		counts := !start.Before(w.counted)
		if counts && w.config.Operations > 0 && w.begun.Add(1) > w.config.Operations {
			return
		}
		t := w.stage.choose(w.config.Mix, w.random)
		code := w.do(ctx, &t)
		if ctx.Err() != nil {
			return // interrupted: it says nothing about the front end
		}
		now := time.Now()
		w.count(&t, code, now.Sub(start), counts)
		if counts {
			w.last = now
		}
		w.rest(ctx, code)
	}
}

// start waits until the next operation may begin and returns the time from which it is measured. Where it is due already
// because the connections were busy, that is when it was due, so that waiting counts.
func (w *worker) start(ctx context.Context) (time.Time, bool) {
	now := time.Now()
	if w.config.Rate == 0 {
		return now, now.Before(w.end)
	}
	number := w.issued.Add(1) - 1
	due := w.begin.Add(time.Duration(float64(number) / w.config.Rate * float64(time.Second)))
	if !due.Before(w.end) {
		return due, false
	}
	if !due.After(now) {
		return due, true
	}
	ok := pause(ctx, due.Sub(now))
	return time.Now(), ok
}

// do sends one request and returns "" or the code.
func (w *worker) do(ctx context.Context, t *task) string {
	if w.connection == nil {
		connection, err := dial(ctx, &w.endpoints[w.endpoint], w.config.Timeout)
		if err != nil {
			w.disconnect()
			return noConnection
		}
		w.connection = connection
	}
	w.key = w.key[:0]
	if !w.config.WithoutKeys {
		w.keys++
		w.key = append(append(w.key, w.stage.run...), '-')
		w.key = append(strconv.AppendInt(w.key, int64(w.number), 10), '-')
		w.key = strconv.AppendUint(w.key, w.keys, 10)
	}
	w.request = appendRequest(w.request[:0], &w.endpoints[w.endpoint], t, w.key)
	status, body, err := w.connection.roundTrip(ctx, w.request, time.Now().Add(w.config.Timeout))
	if err != nil {
		w.disconnect()
		return noAnswer
	}
	code := judge(t, status, body)
	if w.connection.closing {
		w.connection.close()
		w.connection = nil
	}
	return code
}

// disconnect closes the connection and turns to the next front end.
func (w *worker) disconnect() {
	if w.connection != nil {
		w.connection.close()
		w.connection = nil
	}
	w.endpoint = (w.endpoint + 1) % len(w.endpoints)
}

// count counts an operation: for the progress, and for the report where it counts.
func (w *worker) count(t *task, code string, latency time.Duration, counts bool) {
	switch {
	case code == "":
		w.succeeded.Add(1)
	case isFailure(code):
		w.failed.Add(1)
	default:
		w.refused.Add(1)
	}
	if !counts {
		return
	}
	switch {
	case code == "":
		w.record(t.kind, latency)
	case isFailure(code):
		w.failures[code]++
	default:
		w.refusals[code]++
	}
}

func (w *worker) record(of kind, latency time.Duration) {
	if w.latencies[of] == nil {
		w.latencies[of] = newHistogram()
	}
	w.slowest[of] = max(w.slowest[of], latency)
	// It fails only above the greatest value, which the minimum excludes.
	_ = w.latencies[of].RecordValue(min(latency, longestLatency).Microseconds())
}

// newHistogram returns a histogram of microseconds that is exact to 1 %.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency.Microseconds(), 2)
}

// rest pauses after a failure, longer each time.
func (w *worker) rest(ctx context.Context, code string) {
	if code == "" || !isFailure(code) {
		w.backoff = 0
		return
	}
	w.backoff = min(max(2*w.backoff, shortestBackoff), longestBackoff)
	pause(ctx, w.backoff)
}

// pause returns false where ctx ended first.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
