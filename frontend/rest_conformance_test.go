package frontend_test

import (
	"net/http/httptest"
	"testing"

	"dems/frontend"
	"dems/internal/conformance"
	"dems/internal/onenode"
)

// TestRESTConformance runs the cases through the REST layer in front of one state machine.
func TestRESTConformance(t *testing.T) {
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(frontend.NewHandler(cluster, frontend.RESTConfig{}))
	defer server.Close()
	conformance.Run(t, conformance.REST{BaseURL: server.URL, Client: server.Client()})
}
