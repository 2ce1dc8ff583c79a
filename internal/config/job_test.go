package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestForeignChange(t *testing.T) {
	dir := t.TempDir()
	event := func(name, doc string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fork := event("fork", `{"pull_request": {"head": {"repo": {"full_name": "mallory/shop"}}}}`)
	own := event("own", `{"pull_request": {"head": {"repo": {"full_name": "Acme/Shop"}}}}`)
	gone := event("gone", `{"pull_request": {"head": {"repo": null}}}`)
	for _, c := range []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"nothing", nil, false},
		{"GitHub, fork", map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": fork, "GITHUB_REPOSITORY": "acme/shop"}, true},
		{"GitHub, fork removed", map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": gone, "GITHUB_REPOSITORY": "acme/shop"}, true},
		{"GitHub, own", map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": own, "GITHUB_REPOSITORY": "acme/shop"}, false},
		{"GitHub, push", map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": fork, "GITHUB_REPOSITORY": "acme/shop"}, false},
		{"GitHub, no event", map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": filepath.Join(dir, "none"), "GITHUB_REPOSITORY": "acme/shop"}, false},
		{"GitHub, broken event", map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": event("broken", "{"), "GITHUB_REPOSITORY": "acme/shop"}, false},
		{"GitLab, fork", map[string]string{"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2", "CI_MERGE_REQUEST_PROJECT_ID": "1"}, true},
		{"GitLab, own", map[string]string{"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1", "CI_MERGE_REQUEST_PROJECT_ID": "1"}, false},
		{"CircleCI, fork", map[string]string{"CIRCLE_PR_REPONAME": "shop"}, true},
		{"Azure, fork", map[string]string{"SYSTEM_PULLREQUEST_ISFORK": "True"}, true},
		{"Azure, own", map[string]string{"SYSTEM_PULLREQUEST_ISFORK": "False"}, false},
		{"Buildkite, fork", map[string]string{"BUILDKITE_PULL_REQUEST_REPO": "https://github.com/mallory/shop.git", "BUILDKITE_REPO": "git@github.com:acme/shop.git"}, true},
		{"Buildkite, own", map[string]string{"BUILDKITE_PULL_REQUEST_REPO": "https://github.com/Acme/shop", "BUILDKITE_REPO": "git@github.com:acme/shop.git"}, false},
		{"Buildkite, no pull request", map[string]string{"BUILDKITE_PULL_REQUEST_REPO": "", "BUILDKITE_REPO": "git@github.com:acme/shop.git"}, false},
	} {
		env := func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
		if got := ForeignChange(env); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
