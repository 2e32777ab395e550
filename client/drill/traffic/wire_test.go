package traffic

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"dems"
	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/linearizability"
	"dems/client/drill/report"
	"dems/frontend"
	"dems/fsm"
	"dems/internal/cluster"
	"dems/internal/onenode"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		cluster.Cleanup()
		os.Exit(code)
	}))
}

// wire is the way from a client to a front end over one state machine, without a network: so that it works with time that
// stands still. What is planted on it comes between the two.
type wire struct {
	cluster *onenode.Cluster
	handler http.Handler
	delay   time.Duration // of each request, before and after it is applied
	asked   atomic.Int64  // requests that arrived
	limit   int64         // after how many reached is called; 0: never
	reached func()
	// planted answers requests instead of the front end, which it can ask itself. nil: nothing is planted.
	planted func(request *http.Request, forward func(*http.Request) *http.Response) *http.Response
}

func newWire(t *testing.T) *wire {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	return &wire{cluster: cluster, handler: frontend.NewHandler(cluster, frontend.RESTConfig{})}
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	if trace := httptrace.ContextClientTrace(request.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if w.asked.Add(1) == w.limit {
		w.reached()
	}
	if w.delay > 0 && !pause(request.Context(), w.delay) {
		return nil, request.Context().Err()
	}
	forward := func(request *http.Request) *http.Response {
		again := request.Clone(context.WithoutCancel(request.Context()))
		again.RequestURI = request.URL.RequestURI()
		if request.GetBody != nil { // so that it can be forwarded twice
			again.Body, _ = request.GetBody()
		}
		recorder := httptest.NewRecorder()
		w.handler.ServeHTTP(recorder, again)
		return recorder.Result()
	}
	answer := (*http.Response)(nil)
	if w.planted == nil {
		answer = forward(request)
	} else if answer = w.planted(request, forward); answer == nil {
		<-request.Context().Done()
	}
	if answer == nil || w.delay > 0 && !pause(request.Context(), w.delay) {
		return nil, request.Context().Err()
	}
	return answer, nil
}

// answerOf returns an answer as a front end would write it.
func answerOf(status int, body string) *http.Response {
	contentType := "application/json"
	if status >= 400 {
		contentType = "application/problem+json"
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader([]byte(body))),
	}
}

// bodyOf takes the body out of an answer.
func bodyOf(answer *http.Response) string {
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(err) // it is in memory
	}
	return string(body)
}

// rewritten returns an answer with something in its body replaced.
func rewritten(answer *http.Response, old, new string) *http.Response {
	answer.Body = io.NopCloser(strings.NewReader(strings.ReplaceAll(bodyOf(answer), old, new)))
	return answer
}

// client returns a client over the wire.
func (w *wire) client(t *testing.T, timeout time.Duration) *client.Client {
	t.Helper()
	api, err := client.New(client.Config{Endpoints: []string{"http://wire"}, Timeout: timeout, RoundTripper: w})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// prepared returns traffic over a wire.
func prepared(t *testing.T, w *wire, change func(*Config)) (*Traffic, *history.Recorder) {
	t.Helper()
	recorder := history.NewRecorder(0)
	config := Config{API: w.client(t, 5*time.Second), Recorder: recorder, Rate: -1, Seed: 1}
	if change != nil {
		change(&config)
	}
	traffic, err := Prepare(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return traffic, config.Recorder
}

// runFor runs traffic until that many requests have arrived since it was prepared, and settles it.
func runFor(t *testing.T, w *wire, traffic *Traffic, requests int64) {
	t.Helper()
	runOnly(t, w, traffic, requests)
	if err := traffic.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func runOnly(t *testing.T, w *wire, traffic *Traffic, requests int64) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.limit, w.reached = w.asked.Load()+requests, stop
	if err := traffic.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// broken returns how often each invariant is broken, and fails the test where one is that may not be.
func broken(t *testing.T, traffic *Traffic, may ...string) map[string]uint64 {
	t.Helper()
	found := make(map[string]uint64)
	for _, invariant := range traffic.Findings() {
		found[invariant.Name] = invariant.Broken
		if invariant.Broken > 0 && !slices.Contains(may, invariant.Name) {
			t.Errorf("%s is broken %d times: %q", invariant.Name, invariant.Broken, invariant.Examples)
		}
		if (invariant.Broken > 0) != (len(invariant.Examples) > 0) || invariant.Meaning == "" || len(invariant.Examples) > mostExamples {
			t.Errorf("%+v", invariant)
		}
	}
	return found
}

func exampleOf(t *testing.T, traffic *Traffic, name string) string {
	t.Helper()
	at := slices.IndexFunc(traffic.Findings(), func(i report.Invariant) bool { return i.Name == name })
	if examples := traffic.Findings()[at].Examples; len(examples) > 0 {
		return examples[0]
	}
	t.Errorf("%s has no examples", name)
	return ""
}

// machine is a bare state machine that one group is replayed on.
type machine struct {
	*fsm.Machine
	batches uint64
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{Machine: fsm.New(dems.DefaultCities())}
	if _, err := m.Apply(1, dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: "fe1", Address: "http://fe1", Version: "test", Time: time.UnixMilli(1), Session: 1,
	}})); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) do(t *testing.T, command dems.Command) dems.Result {
	t.Helper()
	command.Time = time.UnixMilli(2)
	var encoded []byte
	if command.Op.Mutates() {
		m.batches++
		applied, err := m.Apply(m.Index()+1, dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: 1, Number: m.batches, Commands: []dems.Command{command},
		}}))
		if err != nil || applied.Refused != "" {
			t.Fatal(err, applied.Refused)
		}
		encoded = applied.Results
	} else {
		encoded = m.Query(&dems.Query{Kind: dems.OperationQuery, Command: command}).Result
	}
	results, err := dems.DecodeResults(encoded)
	if err != nil || len(results) != 1 {
		t.Fatal(results, err)
	}
	return results[0]
}

// replay does the operations of every group again, each group on a state machine of its own, in the order of the log, and
// compares the answers. It returns how often each code was answered, by operation, and how many groups there are.
func replay(t *testing.T, operations []history.Operation) (codes map[dems.Code]int, groups int) {
	t.Helper()
	codes = make(map[dems.Code]int)
	byGroup := make(map[int][]history.Operation)
	for _, operation := range operations {
		byGroup[operation.Group] = append(byGroup[operation.Group], operation)
	}
	for number, group := range byGroup {
		answered := slices.DeleteFunc(group, func(o history.Operation) bool { return o.Outcome != history.Answered })
		// A mutation changes what is read at its own index. What is refused without the log has no index; it depends on nothing.
		slices.SortStableFunc(answered, func(a, b history.Operation) int {
			return cmp.Or(cmp.Compare(a.Result.Sequence, b.Result.Sequence), cmp.Compare(rank(&a), rank(&b)))
		})
		m := newMachine(t)
		for _, operation := range answered {
			want := m.do(t, operation.Command)
			codes[want.Code]++
			difference := gocmp.Diff(want, operation.Result, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(dems.Result{}, "Sequence", "Replayed"))
			if difference != "" {
				t.Fatalf("group %d, operation %d, %+v (-machine +answer):\n%s", number, operation.Number, operation.Command, difference)
			}
			if operation.Command.Op.Mutates() && operation.Result.Sequence == 0 {
				t.Fatalf("operation %d, %+v, has no sequence", operation.Number, operation.Command)
			}
		}
	}
	return codes, len(byGroup)
}

// linearizable checks the histories of all groups, without knowing what the log says.
func linearizable(t *testing.T, operations []history.Operation) {
	t.Helper()
	result := linearizability.Check(t.Context(), operations, linearizability.Options{})
	for _, violation := range result.Violations {
		t.Errorf("%s", violation)
	}
	for _, undecided := range result.Undecided[:min(5, len(result.Undecided))] {
		t.Errorf("%s", undecided)
	}
	for _, disorder := range linearizability.CheckSequences(operations) {
		t.Errorf("%s", disorder)
	}
	if result.Groups == 0 || result.Operations != len(operations) {
		t.Errorf("%d groups and %d operations checked of %d", result.Groups, result.Operations, len(operations))
	}
}

func rank(o *history.Operation) int {
	if o.Command.Op.Mutates() {
		return 0
	}
	return 1
}

// count returns how many events there are.
func count(t *testing.T, w *wire) int {
	t.Helper()
	existing, err := existingEvents(t.Context(), w.client(t, time.Second), dems.DefaultCities()[0].City)
	if err != nil {
		t.Fatal(err)
	}
	return len(existing)
}

// once returns a function that is true the first n times, whoever calls it.
func once(n int64) func() bool {
	var times atomic.Int64
	return func() bool { return times.Add(1) <= n }
}

// isUniqueBooking tells whether a request books a unique event.
func isUniqueBooking(request *http.Request) bool {
	path := request.URL.Path
	return request.Method == http.MethodPost && strings.HasSuffix(path, "/bookings") && path[len("/v1/customers/TORC")] >= '4'
}
