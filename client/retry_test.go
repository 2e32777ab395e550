package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

// The tests of this file add one event and look at how often, and under which key, it was asked for.

func addOne(t *testing.T, s *system) (*client.Added, error) {
	t.Helper()
	return s.AddEvent(t.Context(), eventKey(t, dems.Seminar, "TORM100519"), 3)
}

// wantOneKey checks that every request came under one key, and returns it.
func wantOneKey(t *testing.T, s *system, requests int) string {
	t.Helper()
	var keys []string
	for _, frontEnd := range s.frontEnds {
		for _, request := range frontEnd.Requests() {
			keys = append(keys, request.Key)
		}
	}
	if len(keys) != requests || requests > 0 && keys[0] == "" || len(slices.Compact(slices.Clone(keys))) > 1 {
		t.Fatalf("%d requests with the keys %q, want %d with one key", len(keys), keys, requests)
	}
	return keys[0]
}

// wantCreated checks that an operation took effect exactly once: the event is there, in its first version.
func wantCreated(t *testing.T, added *client.Added, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if added.Outcome != "created" {
		t.Errorf("outcome %s: it took effect twice", added.Outcome)
	}
}

func TestTheNextFrontEndIsAskedWhereOneIsDead(t *testing.T) {
	s := start(t, "TORM0001", 1, func(c *client.Config) { c.Endpoints = append([]string{deadEndpoint()}, c.Endpoints...) })
	added, err := addOne(t, s)
	wantCreated(t, added, err)
	wantOneKey(t, s, 1)
	if added.Endpoint != s.frontEnds[0].URL {
		t.Errorf("answered by %s", added.Endpoint)
	}
}

func TestTheFrontEndThatAnsweredIsAskedFirst(t *testing.T) {
	s := start(t, "TORM0001", 3, nil)
	s.frontEnds[0].Fault(onenode.CutBefore)
	for range 3 {
		if _, err := s.ListEventAvailability(t.Context(), dems.Seminar); err != nil {
			t.Fatal(err)
		}
	}
	var counts []int
	for _, frontEnd := range s.frontEnds {
		counts = append(counts, len(frontEnd.Requests()))
	}
	if want := []int{1, 3, 0}; !slices.Equal(counts, want) {
		t.Errorf("requests %v, want %v", counts, want)
	}
}

func TestAnOperationTakesEffectOnceWhateverHappensToItsAnswer(t *testing.T) {
	for _, test := range []struct {
		fault     onenode.Fault
		frontEnds int
		requests  int
		replayed  bool
	}{
		{onenode.CutBefore, 1, 2, false},
		{onenode.CutAfter, 1, 2, true},
		{onenode.CutInside, 1, 2, true},
		{onenode.BadGateway, 1, 2, false},
		{onenode.CutAfter, 2, 2, true},
		{onenode.Hang, 2, 2, false},
		{onenode.HangAfter, 2, 2, true},
		{onenode.NotOurs, 2, 2, false},
	} {
		t.Run(fmt.Sprintf("%s of %d", test.fault, test.frontEnds), func(t *testing.T) {
			t.Parallel()
			s := start(t, "TORM0001", test.frontEnds, func(c *client.Config) { c.AttemptTimeout = 500 * time.Millisecond })
			s.frontEnds[0].Fault(test.fault)
			added, err := addOne(t, s)
			wantCreated(t, added, err)
			wantOneKey(t, s, test.requests)
			if added.Replayed != test.replayed {
				t.Errorf("replayed %t, want %t", added.Replayed, test.replayed)
			}
		})
	}
}

func TestARefusalIsFinalThoughTheFirstAnswerWasLost(t *testing.T) {
	s := start(t, "OTWM0001", 1, nil)
	s.frontEnds[0].Fault(onenode.CutAfter)
	_, err := addOne(t, s) // an event of Toronto
	wantError(t, err, dems.ForbiddenCity)
	wantOneKey(t, s, 2)
}

func TestCodesThatAreAskedForAgain(t *testing.T) {
	for _, code := range []dems.Code{dems.Indeterminate, dems.NoMajority} {
		s := start(t, "TORM0001", 1, func(c *client.Config) { c.Timeout = 5 * time.Second })
		s.cluster.Fail(code)
		added, err := addOne(t, s)
		wantCreated(t, added, err)
		wantOneKey(t, s, 2)
	}
}

func TestWhatIsKnownWhenTheTimeIsOver(t *testing.T) {
	for _, test := range []struct {
		name   string
		faults []onenode.Fault // of the only front end
		codes  []dems.Code     // of its cluster
		want   dems.Code
		status int
	}{
		{"unavailable", nil, []dems.Code{dems.Unavailable}, dems.Unavailable, 503},
		{"rate limited", nil, []dems.Code{dems.RateLimited}, dems.RateLimited, 429},
		{"no majority", nil, slices.Repeat([]dems.Code{dems.NoMajority}, 10_000), dems.NoMajority, 503},
		{"indeterminate, then unavailable", nil, []dems.Code{dems.Indeterminate, dems.Unavailable}, dems.Indeterminate, 0},
		{"cut, then unavailable", []onenode.Fault{onenode.CutAfter}, []dems.Code{dems.OK, dems.Unavailable}, dems.Indeterminate, 0},
		{"silence", []onenode.Fault{onenode.Hang}, nil, dems.Indeterminate, 0},
		{"internal", nil, []dems.Code{dems.Internal}, dems.Internal, 500},
		{"internal after a cut", []onenode.Fault{onenode.CutAfter}, []dems.Code{dems.OK, dems.Internal}, dems.Internal, 500},
		{"not ours", []onenode.Fault{onenode.NotOurs}, nil, dems.Unavailable, 404},
		{"cut, then not ours", []onenode.Fault{onenode.CutBefore, onenode.NotOurs}, nil, dems.Indeterminate, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "TORM0001", 1, func(c *client.Config) { c.Timeout = 900 * time.Millisecond })
			s.frontEnds[0].Fault(test.faults...)
			s.cluster.Fail(test.codes...)
			_, err := addOne(t, s)
			failed := wantError(t, err, test.want)
			if failed.Status != test.status || failed.Detail == "" || failed.Key == "" {
				t.Errorf("%+v", failed)
			}
		})
	}
}

func TestReadsAreNeverIndeterminate(t *testing.T) {
	s := start(t, "TORM0001", 1, func(c *client.Config) { c.Timeout = 100 * time.Millisecond })
	s.frontEnds[0].Fault(onenode.Hang)
	_, err := s.ListEventAvailability(t.Context(), dems.Seminar)
	if failed := wantError(t, err, dems.Unavailable); failed.Key != "" {
		t.Errorf("a read has the key %q", failed.Key)
	}
}

func TestNobodyAnswers(t *testing.T) {
	c := newClient(t, client.Config{
		Endpoints: []string{deadEndpoint(), deadEndpoint()}, User: userID(t, "TORM0001"), Timeout: 100 * time.Millisecond,
	})
	_, err := c.AddEvent(t.Context(), eventKey(t, dems.Seminar, "TORM100519"), 1)
	failed := wantError(t, err, dems.Unavailable)
	if failed.Status != 0 || !strings.Contains(failed.Error(), "refused") {
		t.Errorf("%v", failed)
	}
}

func TestCancellation(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.AddEvent(ctx, eventKey(t, dems.Seminar, "TORM100519"), 1)
	failed := wantError(t, err, dems.Unavailable)
	if len(s.frontEnds[0].Requests()) != 0 || failed.Key == "" {
		t.Errorf("sent all the same: %v", failed)
	}
}

// TestTooLargeAnswersAreNotRead: asking again would not make them smaller.
func TestTooLargeAnswersAreNotRead(t *testing.T) {
	s := start(t, "TORM0001", 2, func(c *client.Config) { c.MaxResponseBytes = 20 })
	_, err := addOne(t, s)
	wantError(t, err, dems.Internal)
	wantOneKey(t, s, 1)
}

// TestAnswersOfOtherServers has a server answer what no front end does.
func TestAnswersOfOtherServers(t *testing.T) {
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		want                    dems.Code
	}{
		{"success as text", "text/html", "<p>", 200, dems.Indeterminate},
		{"success without a type", "", "{}", 200, dems.Indeterminate},
		{"success in lines", "application/x-ndjson", "{}", 200, dems.Indeterminate},
		{"success that is no JSON", "application/json", "{", 200, dems.Internal},
		{"success with other fields", "application/json", `{"event":{"eventID":"nonsense"}}`, 200, dems.Internal},
		{"empty success", "application/json; charset=utf-8", "", 200, dems.OK},
		{"refusal as text", "text/plain", "no", 409, dems.Unavailable},
		{"refusal without a code", "application/problem+json", `{"detail":"no"}`, 409, dems.Unavailable},
		{"refusal with an unknown code", "application/problem+json", `{"code":"too_green"}`, 409, dems.Internal},
		{"refusal with the code ok", "application/problem+json", `{"code":"ok"}`, 409, dems.Internal},
		{"problem with a success's status", "application/problem+json", `{"code":"event_full"}`, 200, dems.Indeterminate},
		{"problem without a detail", "application/problem+json", `{"code":"event_full"}`, 409, dems.EventFull},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
				writer.Header()["Content-Type"] = []string{test.contentType}
				writer.WriteHeader(test.status)
				io.WriteString(writer, test.body)
			}))
			defer server.Close()
			c := newClient(t, client.Config{Endpoints: []string{server.URL}, User: userID(t, "TORM0001")})
			_, err := c.AddEvent(t.Context(), eventKey(t, dems.Seminar, "TORM100519"), 1)
			if test.want == dems.OK {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if failed := wantError(t, err, test.want); failed.Detail == "" {
				t.Errorf("no detail: %+v", failed)
			}
		})
	}
}

func TestFrontEndsSeenInTheRegistryAreAskedWhereAllOthersFail(t *testing.T) {
	for _, learn := range []bool{true, false} {
		s := start(t, "TORM0001", 2, func(c *client.Config) {
			c.Endpoints = c.Endpoints[:1]
			c.LearnEndpoints = learn
			if !learn {
				c.Timeout = 500 * time.Millisecond
			}
		})
		if _, err := s.Registry(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.frontEnds[0].Close()
		s.Close() // a connection that is still open might carry a request that nobody answers
		added, err := addOne(t, s)
		if !learn {
			wantError(t, err, dems.Unavailable)
			continue
		}
		wantCreated(t, added, err)
		if added.Endpoint != s.frontEnds[1].URL {
			t.Errorf("answered by %s", added.Endpoint)
		}
	}
}

// script is a RoundTripper that gives each attempt the next answer: a status with a code, or "refused" for a connection
// that is not made. It notes when each came. After its end everything succeeds.
type script struct {
	begin   time.Time
	answers []string
	after   string // Retry-After
	at      []time.Duration
}

func (s *script) RoundTrip(request *http.Request) (*http.Response, error) {
	s.at = append(s.at, time.Since(s.begin))
	answer := "200"
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	}
	if answer == "refused" {
		return nil, fmt.Errorf("connection refused")
	}
	httptrace.ContextClientTrace(request.Context()).GotConn(httptrace.GotConnInfo{})
	if answer == "silence" {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	response := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}
	body := `{"outcome":"created"}`
	if answer != "200" {
		response.StatusCode = 503
		response.Header = http.Header{"Content-Type": {"application/problem+json"}, "Retry-After": {s.after}}
		body = `{"code":"` + answer + `"}`
	}
	response.Body = io.NopCloser(bytes.NewReader([]byte(body)))
	return response, nil
}

// play adds an event against a script, in synthetic time, and returns how long it took.
func play(t *testing.T, s *script, config client.Config) (took time.Duration, err error) {
	t.Helper()
	s.begin = time.Now()
	config.RoundTripper = s
	config.User = userID(t, "TORM0001")
	c := newClient(t, config)
	_, err = c.AddEvent(t.Context(), eventKey(t, dems.Seminar, "TORM100519"), 1)
	return time.Since(s.begin), err
}

func TestPausesDoubleWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: slices.Repeat([]string{"refused"}, 8)}
		config := client.Config{Endpoints: []string{"http://a"}, Timeout: time.Hour}
		if _, err := play(t, s, config); err != nil {
			t.Fatal(err)
		}
		longest := 50 * time.Millisecond
		for i := 1; i < len(s.at); i++ {
			if pause := s.at[i] - s.at[i-1]; pause < longest/2 || pause > longest {
				t.Errorf("pause %d lasts %v, want %v to %v", i, pause, longest/2, longest)
			}
			longest = min(2*longest, time.Second)
		}
	})
}

func TestThereIsNoPauseBetweenFrontEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []string{"refused", "unavailable"}, after: "7"}
		took, err := play(t, s, client.Config{Endpoints: []string{"http://a", "http://b", "http://c"}})
		if err != nil || took != 0 {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []string{"unavailable"}, after: "7"}
		if took, err := play(t, s, client.Config{Endpoints: []string{"http://a"}}); err != nil || took != 7*time.Second {
			t.Errorf("took %v: %v", took, err)
		}
		s = &script{answers: []string{"unavailable"}, after: "11"}
		took, err := play(t, s, client.Config{Endpoints: []string{"http://a"}, Timeout: 10 * time.Second})
		if failed := wantError(t, err, dems.Unavailable); took != 0 || failed.RetryAfter != 11*time.Second {
			t.Errorf("waited %v although the time does not suffice: %+v", took, failed)
		}
	})
}

func TestAFrontEndThatIsSilentIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []string{"silence"}}
		took, err := play(t, s, client.Config{Endpoints: []string{"http://a", "http://b"}})
		if err != nil || took != 3*time.Second {
			t.Errorf("left after %v: %v", took, err)
		}
	})
}

func TestTheOnlyFrontEndHasAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []string{"silence"}}
		took, err := play(t, s, client.Config{Endpoints: []string{"http://a"}})
		wantError(t, err, dems.Indeterminate)
		if took != 10*time.Second || len(s.at) != 1 {
			t.Errorf("%d attempts in %v", len(s.at), took)
		}
	})
}
