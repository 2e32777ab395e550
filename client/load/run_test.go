package load

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started returns a cluster and a front end, and a small load for them.
func started(t *testing.T) (*onenode.Cluster, *onenode.FrontEnd, Config) {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	frontEnd, err := onenode.Start(cluster, "fe1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(frontEnd.Close)
	return cluster, frontEnd, Config{Endpoints: []string{frontEnd.URL}, Connections: 4, Operations: 300, Duration: time.Minute, Events: 7, Customers: 1000}
}

// count returns how many events there are.
func count(t *testing.T, frontEnd *onenode.FrontEnd) int {
	t.Helper()
	api, err := client.New(client.Config{Endpoints: []string{frontEnd.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	events, err := existing(t.Context(), api.As(manager(dems.City{'T', 'O', 'R'})))
	if err != nil {
		t.Fatal(err)
	}
	return len(events)
}

func TestEveryMixDoesWhatItReports(t *testing.T) {
	for _, mix := range []Mix{Book, Read, Mixed} {
		t.Run(string(mix), func(t *testing.T) {
			cluster, frontEnd, config := started(t)
			config.Mix = mix
			config.Keep = true
			report, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if report.Operations != 300 || len(report.Refusals) != 0 || len(report.Failures) != 0 || report.Interrupted {
				t.Errorf("report %+v", report)
			}
			done := uint64(0)
			for _, kind := range report.Kinds {
				done += kind.Operations
				if kind.Latency.P50 <= 0 || kind.Latency.P50 > kind.Latency.P999 || kind.Latency.P999 > kind.Latency.Max || kind.PerSecond <= 0 {
					t.Errorf("%+v", kind)
				}
				if kind.Operation == "bookEvent" && mix == Book {
					// The state machine has seen these bookings and the making of the events, and nothing else.
					if want := int(kind.Operations) + 7; cluster.Applied() != want {
						t.Errorf("%d commands applied, want %d", cluster.Applied(), want)
					}
				}
			}
			if done != report.Operations {
				t.Errorf("%d operations by kind of %d", done, report.Operations)
			}
			if got := count(t, frontEnd); got != 7 {
				t.Errorf("%d events are kept, want 7", got)
			}
		})
	}
}

func TestKeysAreSentUnlessSwitchedOff(t *testing.T) {
	for _, without := range []bool{false, true} {
		_, frontEnd, config := started(t)
		config.WithoutKeys = without
		if _, err := Run(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		keys, bookings := make(map[string]bool), 0
		for _, request := range frontEnd.Requests() {
			if request.Method == http.MethodPost {
				bookings++
				keys[request.Key] = true
			}
		}
		if want := map[bool]int{false: bookings, true: 1}[without]; len(keys) != want || keys[""] != without {
			t.Errorf("without keys %t: %d keys for %d bookings", without, len(keys), bookings)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	_, frontEnd, config := started(t)
	if _, err := Run(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := count(t, frontEnd); got != 0 {
		t.Errorf("%d events are left", got)
	}
}

func TestRefusalsAndFailuresAreNotCountedAsDone(t *testing.T) {
	cluster, frontEnd, config := started(t)
	config.Connections = 1
	config.Operations = 20
	ready := make(chan struct{})
	config.Seed = 3
	// The load is told apart from what is made before it by its keys.
	proxy := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodPost && strings.HasSuffix(request.Header.Get("Idempotency-Key"), "-0-1") {
			cluster.Fail(dems.EventFull, dems.EventFull, dems.OK, dems.Unavailable, dems.Indeterminate)
			close(ready)
		}
		forward(t, frontEnd.URL, writer, request)
	}))
	defer proxy.Close()
	config.Endpoints = []string{proxy.URL}
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if report.Operations != 16 || report.Refusals["event_full"] != 2 || report.Failures["unavailable"] != 1 || report.Failures["indeterminate"] != 1 {
		t.Errorf("report %+v", report)
	}
}

// forward passes a request on to another server and its answer back.
func forward(t *testing.T, to string, writer http.ResponseWriter, request *http.Request) {
	passed, err := http.NewRequestWithContext(request.Context(), request.Method, to+request.RequestURI, request.Body)
	if err != nil {
		t.Error(err)
		return
	}
	passed.Header, passed.ContentLength = request.Header, request.ContentLength
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(passed)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		writer.Header()[name] = values
	}
	writer.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(writer, answer.Body); err != nil {
		t.Error(err)
	}
}

func TestAConnectionThatIsCutIsAFailureAndIsReplaced(t *testing.T) {
	_, frontEnd, config := started(t)
	config.Connections = 1
	config.Operations = 10
	config.Events = 1
	// What is made before the load: the registry, three lists, one event.
	frontEnd.Fault(onenode.None, onenode.None, onenode.None, onenode.None, onenode.None, onenode.None, onenode.CutBefore, onenode.CutInside, onenode.NotOurs)
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if report.Operations != 7 || report.Failures[noAnswer] != 2 || report.Failures[wrongAnswer] != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestADeadFrontEndIsAFailureAndTheNextIsUsed(t *testing.T) {
	_, frontEnd, config := started(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	config.Connections = 2 // one begins with each endpoint
	config.Endpoints = []string{frontEnd.URL, dead.URL}
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if report.Failures[noConnection] != 1 || report.Operations != 299 {
		t.Errorf("report %+v", report)
	}
}

func TestInterruption(t *testing.T) {
	cluster, frontEnd, config := started(t)
	config.Operations = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for range config.Events + 20 {
			<-cluster.NextApplied()
		}
		cancel()
	}()
	report, err := Run(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Interrupted || report.Operations == 0 || len(report.Failures) != 0 {
		t.Errorf("report %+v", report)
	}
	if got := count(t, frontEnd); got != 0 {
		t.Errorf("%d events are left", got)
	}
}

func TestProgress(t *testing.T) {
	_, _, config := started(t)
	config.Operations = 0
	config.Duration = 1100 * time.Millisecond
	config.Rate = 100
	var told []Progress
	config.Progress = func(progress Progress) { told = append(told, progress) }
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if len(told) < 1 || told[0].Operations == 0 || told[0].Second != told[0].Operations || told[0].Failures != 0 {
		t.Errorf("told %+v", told)
	}
	if report.Operations != 110 {
		t.Errorf("%d operations in 1.1 s at 100 a second", report.Operations)
	}
}

func TestWarmUpDoesNotCount(t *testing.T) {
	_, frontEnd, config := started(t)
	config.Operations = 50
	config.Warmup = 50 * time.Millisecond
	begin := time.Now()
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	bookings := 0
	for _, request := range frontEnd.Requests() {
		if strings.Contains(request.Path, "/bookings") {
			bookings++
		}
	}
	if report.Operations != 50 || bookings < 50 || time.Since(begin) < config.Warmup {
		t.Errorf("%d operations count of %d, after %v", report.Operations, bookings, time.Since(begin))
	}
}

func TestWhatCounts(t *testing.T) {
	c := &course{config: Config{Connections: 1}, stage: &stage{}, endpoints: make([]endpoint, 1)}
	w := newWorker(c, 0, 1)
	for _, code := range []string{"", "event_full", "unavailable"} {
		w.count(aTask(book), code, time.Millisecond, false)
	}
	report := newReport(c, []*worker{w}, 0)
	if report.Operations != 0 || len(report.Refusals) != 0 || len(report.Failures) != 0 {
		t.Errorf("the warm-up counts: %+v", report)
	}
	if w.succeeded.Load() != 1 || w.refused.Load() != 1 || w.failed.Load() != 1 {
		t.Error("the warm-up is missing in the progress")
	}
	w.count(aTask(book), "", 3*time.Millisecond, true)
	w.count(aTask(show), "", time.Hour, true)
	w.count(aTask(show), "event_full", time.Millisecond, true)
	report = newReport(c, []*worker{w, w}, 0)
	if report.Operations != 4 || report.Refusals["event_full"] != 2 || report.Latency.Max != 3_600_000 {
		t.Errorf("two workers with two operations each: %+v", report)
	}
}

func TestSetupThatFailsLeavesNothing(t *testing.T) {
	for _, after := range []int{0, 1, 4, 6, 10} { // the registry, the lists, the events, the bookings to read
		cluster, frontEnd, config := started(t)
		config.Mix = Read
		for range after {
			cluster.Fail(dems.OK)
		}
		cluster.Fail(dems.ForbiddenRole)
		report, err := Run(t.Context(), config)
		if err == nil || report != nil {
			t.Errorf("after %d: report %v, error %v", after, report, err)
		}
		if got := count(t, frontEnd); got != 0 {
			t.Errorf("after %d: %d events are left", after, got)
		}
	}
}

func TestFreeEvents(t *testing.T) {
	cities := dems.DefaultCities()
	first := freeEvents(cities, nil, 30, 17884)
	taken := make(map[dems.EventKey]bool)
	for _, key := range first {
		if id, ok := dems.ParseEventID(key.ID.String()); !ok || id != key.ID || taken[key] {
			t.Errorf("%s is no event, or stands twice", key)
		}
		taken[key] = true
	}
	second := freeEvents(cities, taken, 30, 17884)
	for _, key := range second {
		if taken[key] {
			t.Errorf("%s is taken", key)
		}
	}
	if len(first) != 30 || len(second) != 30 {
		t.Errorf("%d and %d events, want 30", len(first), len(second))
	}
	if got := len(freeEvents(cities[:1], nil, maxEvents, 0)); got != maxEvents {
		t.Errorf("%d events in one city, want %d", got, maxEvents)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no endpoint":         func(c *Config) { c.Endpoints = nil },
		"malformed endpoint":  func(c *Config) { c.Endpoints = []string{"host"} },
		"connections":         func(c *Config) { c.Connections = maxConnections + 1 },
		"events":              func(c *Config) { c.Events = -1 },
		"customers":           func(c *Config) { c.Customers = 10_001 },
		"duration":            func(c *Config) { c.Duration = -1 },
		"rate":                func(c *Config) { c.Rate = -1 },
		"mix":                 func(c *Config) { c.Mix = "tea" },
		"endpoint with query": func(c *Config) { c.Endpoints = []string{"http://host?a=b"} },
	} {
		config := Config{Endpoints: []string{"http://127.0.0.1:9"}}
		change(&config)
		if report, err := Run(t.Context(), config); err == nil || report != nil {
			t.Errorf("%s: report %v, error %v", name, report, err)
		}
	}
}

// TestLateStartsAreMeasuredFromWhenTheyWereDue: with a rate, waiting for a free connection is part of the latency.
func TestLateStartsAreMeasuredFromWhenTheyWereDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := &course{config: Config{Rate: 10}, endpoints: make([]endpoint, 1), begin: begin, end: begin.Add(time.Second)}
		w := newWorker(c, 0, 1)
		for number := range 3 {
			start, ok := w.start(t.Context())
			if !ok || start.Sub(begin) != time.Duration(number)*100*time.Millisecond {
				t.Errorf("operation %d begins after %v, %t", number, start.Sub(begin), ok)
			}
		}
		time.Sleep(450 * time.Millisecond) // an answer that takes long
		for number := 3; number < 6; number++ {
			if start, _ := w.start(t.Context()); start.Sub(begin) != time.Duration(number)*100*time.Millisecond || time.Since(start) <= 0 {
				t.Errorf("operation %d is measured from %v", number, start.Sub(begin))
			}
		}
		time.Sleep(time.Second)
		for range 4 {
			w.start(t.Context())
		}
		if start, ok := w.start(t.Context()); ok {
			t.Errorf("an operation begins after the end, at %v", start.Sub(begin))
		}
	})
}

func TestPausesAfterFailuresGrowUpToALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(&course{endpoints: make([]endpoint, 1)}, 0, 1)
		want := 10 * time.Millisecond
		for range 8 {
			before := time.Now()
			w.rest(t.Context(), "unavailable")
			if got := time.Since(before); got != want {
				t.Errorf("pause of %v, want %v", got, want)
			}
			want = min(2*want, longestBackoff)
		}
		w.rest(t.Context(), "event_full")
		before := time.Now()
		w.rest(t.Context(), noAnswer)
		if got := time.Since(before); got != shortestBackoff {
			t.Errorf("pause of %v after an answer in between", got)
		}
	})
}

func TestReportOfNothing(t *testing.T) {
	c := &course{config: Config{Connections: 1}, stage: &stage{}, endpoints: make([]endpoint, 1)}
	report := newReport(c, []*worker{newWorker(c, 0, rand.Uint64())}, 0)
	if report.Operations != 0 || report.PerSecond != 0 || report.Latency != (Latency{}) || report.Refusals == nil || report.Failures == nil || report.Kinds == nil {
		t.Errorf("report %+v", report)
	}
}
