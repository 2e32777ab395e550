package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// mostBodyBytes is the largest answer that is read, in bytes.
const mostBodyBytes = 16 << 20

// REST is the REST API at a base URL such as http://127.0.0.1:8080, with the identity in the header Dems-User.
type REST struct {
	BaseURL string
	Client  *http.Client // nil: http.DefaultClient
}

// Do implements Target.
func (r REST) Do(ctx context.Context, as string, operation Operation) (Answer, error) {
	request, err := r.request(ctx, operation)
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Dems-User", as)
	if key, found := operation["key"]; found {
		request.Header.Set("Idempotency-Key", fmt.Sprint(key))
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, mostBodyBytes))
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: response.StatusCode, Replayed: response.Header.Get("Idempotency-Replayed") == "true"}
	answer.Sequence, _ = strconv.ParseUint(response.Header.Get("Dems-Sequence"), 10, 64) // 0 where nothing was ordered
	if err := decode(data, &answer.Body); err != nil {
		return Answer{}, fmt.Errorf("status %d, body %.200q: %w", response.StatusCode, data, err)
	}
	return answer, checkContentType(response, answer)
}

// checkContentType compares the content type with what the body is: a problem or not.
func checkContentType(response *http.Response, answer Answer) error {
	want := "application/json"
	if response.StatusCode >= 400 {
		want = "application/problem+json"
		if object, _ := answer.Body.(map[string]any); object["status"] != json.Number(fmt.Sprint(response.StatusCode)) {
			return fmt.Errorf("status %d, but the problem says %v", response.StatusCode, object["status"])
		}
	}
	if got := response.Header.Get("Content-Type"); got != want {
		return fmt.Errorf("content type %q, want %q", got, want)
	}
	return nil
}

// request builds the HTTP request that stands for an operation.
func (r REST) request(ctx context.Context, operation Operation) (*http.Request, error) {
	method, path, body := "", "", Operation(nil)
	segment := func(name string) string { return "/" + url.PathEscape(operation.Text(name)) }
	query := func(name string) string {
		if _, found := operation[name]; !found {
			return ""
		}
		return "?" + url.Values{name: {operation.Text(name)}}.Encode()
	}
	events, customer := "/v1/events"+segment("eventType"), "/v1/customers"+segment("customerID")
	switch operation["op"] {
	case "addEvent":
		method, path, body = http.MethodPut, events+segment("eventID"), operation.only("capacity")
	case "removeEvent":
		method, path = http.MethodDelete, events+segment("eventID")+query("bookings")
	case "listEventAvailability":
		method, path = http.MethodGet, events
	case "getEvent":
		method, path = http.MethodGet, events+segment("eventID")
	case "bookEvent":
		method, path, body = http.MethodPost, customer+"/bookings", operation.only("eventID", "eventType")
	case "getBookingSchedule":
		method, path = http.MethodGet, customer+"/bookings"
	case "cancelEvent":
		method, path = http.MethodDelete, customer+"/bookings"+segment("eventID")+query("eventType")
	case "swapEvent":
		method, path = http.MethodPost, customer+"/swaps"
		body = operation.only("newEventID", "newEventType", "oldEventID", "oldEventType")
	default:
		return nil, fmt.Errorf("no operation %v", operation["op"])
	}
	return newRequest(ctx, method, strings.TrimSuffix(r.BaseURL, "/")+path, body)
}

func newRequest(ctx context.Context, method, address string, body Operation) (*http.Request, error) {
	if body == nil {
		return http.NewRequestWithContext(ctx, method, address, nil)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(data))
	if err == nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

// only returns the parameters of those names that are there.
func (o Operation) only(names ...string) Operation {
	part := Operation{}
	for _, name := range names {
		if value, found := o[name]; found {
			part[name] = value
		}
	}
	return part
}
