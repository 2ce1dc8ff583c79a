# The project's own build: it calls the API with its token.
import json, os, urllib.request

request = urllib.request.Request(os.environ["API"], headers={"Authorization": "Bearer " + os.environ["SANDBOX_ACCESS_TOKEN"]})
with urllib.request.urlopen(request, timeout=20) as answer:
    print(json.load(answer)["name"])
