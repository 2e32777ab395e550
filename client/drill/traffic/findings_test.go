package traffic

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// forwardTo asks the front end.
type forwardTo = func(*http.Request) *http.Response

// TestWhatGoesWrongIsFound plants misbehaviour between the clients and a front end.
func TestWhatGoesWrongIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		plant   func() func(request *http.Request, forward forwardTo) *http.Response
		finds   []string // the first has the example
		example string
	}{
		"an acknowledged booking that was never made": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(3)
				return func(request *http.Request, forward forwardTo) *http.Response {
					if !isUniqueBooking(request) || !first() {
						return forward(request)
					}
					return pretendBooked(request, forward)
				}
			},
			// The seats that were not taken are sold to others, and asking again under the key books none.
			finds: []string{"lost", "oversold", "double-applied", "impossible answers"}, example: "acknowledged, but the schedule of",
		},
		"an event that vanishes with its bookings": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					if request.Method == http.MethodGet && isUniqueDate(request.URL.Path) {
						return answerOf(404, `{"code":"event_not_found"}`)
					}
					return forward(request)
				}
			},
			finds: []string{"lost", "oversold"}, example: "is gone, with 30 acknowledged bookings",
		},
		"an answer that was forgotten after it was given": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(3)
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if isUniqueBooking(request) && answer.StatusCode == 201 && first() {
						return answerOf(409, `{"code":"already_booked","sequence":99}`)
					}
					return answer
				}
			},
			finds: []string{"double-applied"}, example: "answered already_booked, but nobody else asked",
		},
		"keys that nobody remembers": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					request.Header.Del("Idempotency-Key")
					return forward(request)
				}
			},
			finds: []string{"double-applied"}, example: "when asked again under its key",
		},
		"two seats for one request": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(1)
				return func(request *http.Request, forward forwardTo) *http.Response {
					if isUniqueBooking(request) && first() {
						another := request.Clone(request.Context())
						another.Header.Set("Dems-User", request.URL.Path[len("/v1/customers/"):len("/v1/customers/")+3]+"M0001")
						another.Header.Del("Idempotency-Key")
						another.URL.Path = "/v1/customers/" + request.URL.Path[len("/v1/customers/"):len("/v1/customers/")+3] + "C0000/bookings"
						forward(another)
					}
					return forward(request)
				}
			},
			finds: []string{"double-applied", "oversold"}, example: " bookings, but only ",
		},
		"a schedule with a booking twice": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if request.Method == http.MethodGet && strings.HasSuffix(request.URL.Path, "/bookings") && answer.StatusCode == 200 {
						body := bodyOf(answer)
						start, end := strings.Index(body, "[")+1, strings.LastIndex(body, "]")
						if start < end {
							return answerOf(200, body[:end]+","+body[start:])
						}
						return answerOf(200, body)
					}
					return answer
				}
			},
			finds: []string{"double-applied", "oversold"}, example: " twice",
		},
		"an event with more bookings than seats": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if request.Method == http.MethodGet && strings.HasPrefix(request.URL.Path, "/v1/events/") && isUniqueDate(request.URL.Path) {
						return rewritten(answer, `"capacity":30`, `"capacity":2`)
					}
					return answer
				}
			},
			finds: []string{"oversold", "impossible answers"}, example: "bookings for 2 seats",
		},
		"more seats sold than there are": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					if request.Method == http.MethodPut && isUniqueDate(request.URL.Path) {
						another := httptest.NewRequest(request.Method, request.URL.String(), strings.NewReader(`{"capacity":35}`))
						another.Header = request.Header
						return rewritten(forward(another), `35`, `30`)
					}
					return rewritten(forward(request), `"capacity":35`, `"capacity":30`)
				}
			},
			finds: []string{"oversold", "impossible answers"}, example: "bookings",
		},
		"a refusal although there is room": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					if number := strings.TrimSuffix(request.URL.Path, "/bookings"); isUniqueBooking(request) && number[len(number)-1]%2 == 1 {
						return answerOf(409, `{"code":"event_full"}`)
					}
					return forward(request)
				}
			},
			finds: []string{"impossible answers"}, example: "were refused as if it were full",
		},
		"a refusal of what was done": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(2)
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if isUniqueBooking(request) && answer.StatusCode == 201 && first() {
						return answerOf(409, `{"code":"event_full"}`)
					}
					return answer
				}
			},
			finds: []string{"impossible answers", "double-applied"}, example: "answered event_full, but at the end the booking is there",
		},
		"a failure of what was done": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if isUniqueBooking(request) && strings.HasSuffix(request.URL.Path, "C4003/bookings") {
						return answerOf(503, `{"code":"unavailable"}`)
					}
					return answer
				}
			},
			finds: []string{"impossible answers", "double-applied"}, example: "certainly not applied, but at the end the booking is there",
		},
		"a rule that does not exist": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(1)
				return func(request *http.Request, forward forwardTo) *http.Response {
					if isUniqueBooking(request) && first() {
						return answerOf(409, `{"code":"monthly_limit"}`)
					}
					return forward(request)
				}
			},
			finds: []string{"impossible answers"}, example: "answered monthly_limit",
		},
		"a front end that fails inside": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(2)
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if isUniqueBooking(request) && first() {
						return answerOf(500, `{"code":"internal"}`)
					}
					return answer
				}
			},
			finds: []string{"impossible answers"}, example: "internal",
		},
		"an answer about somebody else": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(2)
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if isUniqueBooking(request) && answer.StatusCode == 201 && first() {
						return rewritten(answer, `C4`, `C3`)
					}
					return answer
				}
			},
			finds: []string{"impossible answers", "double-applied"}, example: "it is about",
		},
		"an answer that nobody can read": {
			plant: func() func(*http.Request, forwardTo) *http.Response {
				first := once(1)
				return func(request *http.Request, forward forwardTo) *http.Response {
					answer := forward(request)
					if request.Method == http.MethodGet && isUniqueDate(request.URL.Path) && first() {
						return answerOf(200, `{"event":`)
					}
					return answer
				}
			},
			finds: []string{"impossible answers"}, example: "cannot be read",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(t)
				w.delay = time.Millisecond
				traffic, _ := prepared(t, w, func(c *Config) { c.Clients = 8 })
				w.planted = test.plant()
				runFor(t, w, traffic, 1000)
				found := broken(t, traffic, test.finds...)
				if found[test.finds[0]] == 0 {
					t.Fatalf("found %v", found)
				}
				if err := traffic.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if again := broken(t, traffic, test.finds...); !maps.Equal(again, found) {
					t.Errorf("found %v, and after settling again %v", found, again)
				}
				if example := exampleOf(t, traffic, test.finds[0]); !strings.Contains(example, test.example) || !strings.Contains(example, "group ") {
					t.Errorf("example %q", example)
				}
			})
		})
	}
}

// isUniqueDate tells whether an event in a path is a unique one.
func isUniqueDate(path string) bool {
	id, ok := dems.ParseEventID(path[strings.LastIndexByte(path, '/')+1:])
	return ok && int(id.Date.Year)+2000 < contendedYear
}

// pretendBooked answers as if a booking had been made.
func pretendBooked(request *http.Request, forward forwardTo) *http.Response {
	answer := forward(request)
	body := bodyOf(answer)
	if answer.StatusCode != 201 {
		return answerOf(answer.StatusCode, body)
	}
	undo := httptest.NewRequest(http.MethodDelete, answer.Header.Get("Location"), nil)
	undo.Header.Set("Dems-User", request.Header.Get("Dems-User"))
	if status := forward(undo).StatusCode; status != 200 {
		panic(status)
	}
	return answerOf(201, body)
}
