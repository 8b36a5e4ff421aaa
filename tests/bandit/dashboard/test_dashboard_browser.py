"""The dashboard in a real browser: what it shows and changes, for whoever looks, by whatever means."""

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from browser import Visit, chromium, visit
from live import Experiment, Live, ok, serving, until, valkey
from playwright.sync_api import Browser, Page, Route, expect

from bandit.access.manage import Keyring, Wanted

EVIL = "<img src=x onerror=alert(1)>"
DOCUMENT: dict[str, Any] = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "country", "type": "category", "levels": ["cn", "us"]},
        {"name": "member", "type": "boolean"},
    ],
    "rewards": {"click": {}, "sale": {"range": [0, 1000], "weight": 0.01}},
    "arms": ["hero", "list", EVIL],
    "slices": {"learned": {"share": 0.8}, "random": {"share": 0.2, "policy": {"type": "uniform"}}},
}
CHANCE = {"hero": 0.1, "list": 0.4}


class Site(NamedTuple):
    """A server that asks for keys, with an experiment that visitors came to."""

    live: Live
    experiment: Experiment
    decision: str
    keys: dict[str, str]

    def pages(self) -> dict[str, str]:
        """Where each page is, by its heading."""
        e = f"e/{self.experiment.name}"
        return {
            "experiments": "", "overview": e, "arms": f"{e}/arms", "model": f"{e}/model", "what-if": f"{e}/what-if",
            "decision": f"{e}/decision/{quote(self.decision, safe='')}", "change": f"{e}/change", "new": "new",
            "audit": "audit",
        }  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this module."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, dict[str, str]]]:
    """A server that asks for keys, and one key of each role; its client has the admin's."""
    file = tmp_path_factory.mktemp("keys") / "first"
    with valkey() as url, serving(url, auth="on", first_key_file=file) as live:
        found = {"admin": until(lambda: file.exists() and file.read_text().strip())}
        keyring = Keyring(live.service.store)
        found |= {role: keyring.create(Wanted(role, (role,))).text for role in ("read", "write")}
        for each in found.values():
            headers = {"authorization": f"Bearer {each}"}
            until(lambda headers=headers: live.client.get("/v1/whoami", headers=headers).status_code == 200)
        live.client.headers["authorization"] = f"Bearer {found['admin']}"
        yield live, found


@pytest.fixture(scope="module")
def server(keys: tuple[Live, dict[str, str]]) -> Live:
    """The server."""
    return keys[0]


@pytest.fixture(scope="module")
def site(keys: tuple[Live, dict[str, str]]) -> Site:
    """Visited by 600, some of whom clicked."""
    server = keys[0]
    experiment, chance = server.experiment(**DOCUMENT), random.Random(1)
    last = ""
    for batch in range(3):
        context = [
            {"age": chance.gauss(40, 12), "country": chance.choice(["cn", "us"]), "member": chance.random() < 0.3}
            for _ in range(200)
        ]
        asked = [{"context": each, "user_id": f"{batch}-{i}"} for i, each in enumerate(context)]
        shown = ok(experiment.post("recommendations/batch", {"requests": asked}))["results"]
        clicks = [
            {"decision_id": each["decision_id"], "event": "click"}
            for each in shown
            if chance.random() < CHANCE.get(each["arms"][0]["arm"], 0.2)
        ]
        ok(experiment.post("feedback/batch", {"requests": clicks}))
        last = clicks[-1]["decision_id"]
    experiment.until_seen(lambda seen: sum(row["impressions"] for row in seen.values()) == 600)
    return Site(server, experiment, last, keys[1])


@pytest.fixture
def admin(browser: Browser, site: Site) -> Iterator[Visit]:
    """Who may change everything; in the end nothing went wrong on the way."""
    with visit(browser, site.live.url, key=site.keys["admin"]) as found:
        yield found
        assert found.errors == []


@pytest.mark.parametrize("phone", [False, True], ids=["desktop-light", "phone-dark"])
def test_each_page_is_whole_and_accessible(browser: Browser, site: Site, phone: bool) -> None:
    """Nothing fails, nothing is asked of others, axe finds nothing serious, and nothing is wider than the screen."""
    with visit(browser, site.live.url, key=site.keys["admin"], phone=phone, dark=phone) as viewer:
        for name, where in site.pages().items():
            viewer.open(where)
            assert (name, viewer.violations()) == (name, [])
            assert (name, viewer.beyond()) == (name, 0)
        assert (viewer.errors, viewer.refused) == ([], [])
        assert viewer.origins == {site.live.url}


def test_the_first_load_is_small(browser: Browser, site: Site) -> None:
    """The list, and an experiment with its charts, come in 200 kB together, as they went over the wire."""
    with visit(browser, site.live.url, key=site.keys["admin"]) as viewer:
        network = viewer.page.context.new_cdp_session(viewer.page)
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        network.send("Network.enable")
        viewer.open()
        page = viewer.page
        page.get_by_role("link", name=site.experiment.name).click()
        expect(page.locator(".canvas canvas").first).to_be_visible()
        viewer.settled()
        assert 30_000 < sum(sizes) < 200_000


def test_what_is_shown_is_text(admin: Visit, site: Site) -> None:
    """An arm that is named like markup is shown as it is named, on every page, and runs nothing."""
    asked: list[str] = []
    admin.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    for name in ("overview", "arms", "model", "what-if", "decision"):
        page = admin.open(site.pages()[name])
        expect(page.get_by_text(EVIL).first).to_be_attached()
        assert page.locator("img").count() == 0
    assert asked == []


def test_a_page_is_reached_and_left_by_the_keyboard(admin: Visit, site: Site) -> None:
    """The first stop leads past the head; a link leads to a page whose content is focused."""
    page = admin.open()
    page.keyboard.press("Tab")
    assert admin.focused() == "Skip to the content"
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name=site.experiment.name).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=site.experiment.name)).to_be_visible()
    expect(page.locator("main")).to_be_focused()


def test_alpha_is_changed_by_the_keyboard_alone_once_confirmed(admin: Visit, server: Live) -> None:
    """Edit, see what would change, refuse, ask again, confirm: only then the document is another."""
    made = server.experiment(**DOCUMENT)
    page = admin.open(f"e/{made.name}/change")
    page.get_by_label("alpha").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("0.25")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("/policy/alpha")
    expect(dialog.locator("ins")).to_have_text("0.25")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_label("alpha")).to_be_focused()
    assert ok(server.client.get(made.at))["policy"]["alpha"] == "auto"
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    for _ in range(4):
        if admin.focused() == "Change it":
            break
        page.keyboard.press("Tab")
    assert admin.focused() == "Change it"
    page.keyboard.press("Enter")
    expect(page.get_by_text("It is in force from the next decision on")).to_be_visible()
    assert ok(server.client.get(made.at))["policy"]["alpha"] == 0.25


def test_shares_and_weights_are_changed_together(admin: Visit, server: Live) -> None:
    """Only what differs is sent; shares that do not add up are refused by the server, in its words."""
    made = server.experiment(**DOCUMENT)
    page = admin.open(f"e/{made.name}/change")
    page.get_by_label("learned").fill("0.5")
    expect(page.get_by_text("it must be 1")).to_be_visible()
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator(".notice.bad")).to_contain_text("/slices")
    page.get_by_label("random").fill("0.5")
    page.get_by_label("sale").fill("0.02")
    page.get_by_role("button", name="Show what would change").click()
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_text("It is in force from the next decision on")).to_be_visible()
    found = ok(server.client.get(made.at))
    assert found["rewards"]["sale"]["weight"] == 0.02
    assert {name: spec["share"] for name, spec in found["slices"].items()} == {"learned": 0.5, "random": 0.5}
    assert found["slices"]["random"]["policy"] == {"type": "uniform"}


def test_pausing_everything_needs_the_name_typed(admin: Visit, server: Live) -> None:
    """A change that stops all decisions cannot be confirmed by the habit of clicking."""
    made = server.experiment(**DOCUMENT)
    page = admin.open(f"e/{made.name}/change")
    page.get_by_label("paused").check()
    page.get_by_role("button", name="Show what would change").click()
    confirm = page.get_by_role("button", name="Change it")
    expect(confirm).to_be_disabled()
    assert admin.violations() == []
    page.get_by_label("to confirm").fill(made.name[:-1])
    expect(confirm).to_be_disabled()
    page.get_by_label("to confirm").fill(made.name)
    confirm.click()
    expect(page.locator(".title .status")).to_have_text("paused")
    assert ok(server.client.get(made.at))["status"] == "paused"


@pytest.mark.parametrize("looked", [False, True], ids=["before-the-look", "after-it"])
def test_a_change_is_of_the_version_that_was_looked_at(admin: Visit, server: Live, looked: bool) -> None:
    """Somebody else's change meanwhile, at whichever moment, is not overwritten by one that did not see it."""
    made = server.experiment(**DOCUMENT)
    page = admin.open(f"e/{made.name}/change")
    page.get_by_label("alpha").fill("0.5")
    if looked:
        page.get_by_role("button", name="Show what would change").click()
        expect(page.get_by_role("dialog")).to_be_visible()
    ok(made.patch({"policy": {"alpha": 2}}))
    page.get_by_role("button", name="Change it" if looked else "Show what would change").click()
    if looked:
        expect(page.get_by_role("dialog")).to_contain_text("Somebody else was first.")
        page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("in force is version 2")).to_be_visible()
    assert ok(server.client.get(made.at))["policy"]["alpha"] == 2
    page.get_by_role("button", name="Keep my edits over version 2").click()
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("dialog").locator("del")).to_have_text("2")
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_text("It is in force from the next decision on")).to_be_visible()
    assert ok(server.client.get(made.at))["policy"]["alpha"] == 0.5


def test_an_arm_is_paused_and_resumed(admin: Visit, server: Live) -> None:
    """Where it is listed, after a look at what would change."""
    made = server.experiment(**DOCUMENT)
    page = admin.open(f"e/{made.name}/arms")
    page.get_by_role("button", name=f"Pause {EVIL}").click()
    expect(page.get_by_role("dialog")).to_contain_text("/status")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name=f"Resume {EVIL}")).to_be_visible()
    assert made.seen()[EVIL]["status"] == "paused"


def test_a_decision_is_found_with_what_was_credited(admin: Visit, site: Site) -> None:
    """Paste an id: the arm and its probability, the click, and who else could have been shown."""
    page = admin.open(f"e/{site.experiment.name}/decision")
    page.get_by_label("Decision id").fill(f" {site.decision} ")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("was shown with a probability of")).to_be_visible()
    credited = page.get_by_role("region", name="Feedback in the order")
    expect(credited.get_by_role("cell", name="click", exact=True).first).to_be_visible()
    page.get_by_label("Decision id").fill("nobody")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("No such decision.")).to_be_visible()


def test_a_decision_says_how_it_came_about(admin: Visit, server: Live) -> None:
    """At first all arms are equally likely; later one is likelier than those that exploration shows."""
    experiment = server.experiment(arms=["a", "b", "c"], features=[], policy={"type": "linucb", "explore": 0.5})
    first = experiment.decided(context={})["decision_id"]
    page = admin.open(f"e/{experiment.name}/decision/{quote(first, safe='')}")
    expect(page.get_by_text("3 arms could be shown, and all were equally likely.")).to_be_visible()
    for each in ok(experiment.post("recommendations/batch", {"requests": [{"context": {}}] * 200}))["results"]:
        if each["arms"][0]["arm"] == "a":
            experiment.feedback(decision_id=each["decision_id"], event="click")
    told: dict[bool, str] = {}
    until(lambda: experiment.decided(context={})["arms"][0]["propensity"] > 0.5)
    while len(told) < 2:
        made = experiment.decided(context={})
        told[made["arms"][0]["propensity"] > 0.5] = made["decision_id"]
    for likely, text in (
        (True, "and it was the likeliest."),
        (False, "it was drawn although a was likelier: exploration"),
    ):
        page = admin.open(f"e/{experiment.name}/decision/{quote(told[likely], safe='')}")
        expect(page.get_by_text(text)).to_be_visible()


def answer(body: Any, status: int = 200) -> Any:
    """A route's handler that answers this."""
    kind = "application/json" if status == 200 else "application/problem+json"

    def handler(route: Route) -> None:
        route.fulfill(status=status, content_type=kind, body=json.dumps(body))

    return handler


def refusal(code: str, status: int) -> Any:
    """A route's handler that refuses."""
    return answer({"type": code, "title": code, "status": status, "code": code, "detail": f"it was {code}"}, status)


def test_who_may_only_read_sees_no_controls(browser: Browser, site: Site) -> None:
    """All figures, and nothing that changes anything, whatever address is typed."""
    with visit(browser, site.live.url, key=site.keys["read"]) as reader:
        page = reader.open(site.pages()["arms"])
        expect(page.get_by_role("rowheader", name="hero").first).to_be_visible()
        for name in ("New", "Audit", "Change"):
            expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        assert page.get_by_role("button").all_inner_texts() == ["Pause updates", "Sign out"]
        for name in ("model", "what-if", "decision", "overview", "experiments"):
            reader.open(site.pages()[name])
        for name in ("new", "audit", "change"):
            page = reader.open(site.pages()[name])
            expect(page.get_by_text("needs a key of the role “admin”")).to_be_visible()
            expect(page.locator("main form")).to_have_count(0)
        assert (reader.errors, reader.refused) == ([], [])


def test_a_key_for_one_experiment_sees_that_one(browser: Browser, site: Site) -> None:
    """The list has no other, and its figures are there."""
    keyring = Keyring(site.live.service.store)
    made = keyring.create(Wanted("one", ("read",), (site.experiment.name,)))
    other = site.live.experiment(**DOCUMENT)
    headers = {"authorization": f"Bearer {made.text}"}
    until(lambda: site.live.client.get("/v1/whoami", headers=headers).status_code == 200)
    with visit(browser, site.live.url, key=made.text) as viewer:
        page = viewer.open()
        expect(page.get_by_role("row", name=site.experiment.name)).to_contain_text(" / ")
        expect(page.get_by_role("link", name=other.name)).to_have_count(0)
        viewer.open(site.pages()["overview"])
        page = viewer.open(f"e/{other.name}")
        expect(page.get_by_text("Your key may not see", exact=False).first).to_be_visible()
        assert viewer.errors == []


def test_who_may_only_write_is_told_so(browser: Browser, site: Site) -> None:
    """A key that belongs into a site shows nothing here, and another one can be given."""
    with visit(browser, site.live.url, key=site.keys["write"]) as writer:
        page = writer.open(site.pages()["overview"])
        expect(page.get_by_role("heading", name="Nothing to see with this key")).to_be_visible()
        page.get_by_label("API key").fill(site.keys["read"])
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=site.experiment.name)).to_be_visible()


def test_a_key_is_asked_for_kept_in_the_tab_and_sent_in_a_header(browser: Browser, site: Site) -> None:
    """Never in an address, never beyond the tab."""
    with visit(browser, site.live.url) as stranger:
        page = stranger.open()
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        expect(page.get_by_role("heading", name="A key, please")).to_be_visible()
        assert stranger.violations() == []
        page.get_by_label("API key").fill(site.keys["admin"][:-1] + "é")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("no key")
        page.get_by_label("API key").fill(site.keys["admin"][:-6] + "wrong1")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_label("API key").fill(site.keys["admin"])
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name=site.experiment.name)).to_be_visible()
        kept = page.evaluate("[sessionStorage.getItem('bandit-key'), JSON.stringify(localStorage), document.cookie]")
        assert kept == [site.keys["admin"], "{}", ""]
        assert not any(site.keys["admin"] in url for url in [*sent, page.url])
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="A key, please")).to_be_visible()
        assert page.evaluate("sessionStorage.getItem('bandit-key')") is None
        assert stranger.errors == []


def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(browser: Browser, site: Site) -> None:
    """What was shown goes, and the page says why."""
    keyring = Keyring(site.live.service.store)
    made = keyring.create(Wanted("short", ("read",)))
    headers = {"authorization": f"Bearer {made.text}"}
    until(lambda: site.live.client.get("/v1/whoami", headers=headers).status_code == 200)
    with visit(browser, site.live.url, key=made.text) as viewer:
        page = viewer.open()
        expect(page.get_by_role("link", name=site.experiment.name)).to_be_visible()
        keyring.revoke(made.text.split("_")[1])
        expect(page.get_by_role("heading", name="A key, please")).to_be_visible()
        expect(page.get_by_text("not valid any more")).to_be_visible()
        assert viewer.errors == []


def test_a_change_is_in_the_audit_log(admin: Visit, server: Live) -> None:
    """With who made it, and what was and is."""
    made = server.experiment(**DOCUMENT)
    ok(made.patch({"policy": {"alpha": 0.125}}))
    page = admin.open(f"audit/{made.name}")
    expect(page.get_by_role("row", name="experiment.change")).to_contain_text("/policy/alpha")
    expect(page.get_by_role("row", name="experiment.change")).to_contain_text("auto → 0.125")
    expect(page.get_by_role("row")).to_have_count(3)  # its names, the change, and that it was made


def test_what_would_be_answered_follows_the_context(admin: Visit, site: Site) -> None:
    """Estimates change with what is edited, are compared with those kept, and nothing is logged."""
    seen = sum(row["impressions"] for row in site.experiment.seen().values())
    page = admin.open(site.pages()["what-if"])
    table = page.get_by_role("region", name="arms may be shown")
    before = table.get_by_role("row", name="hero").inner_text()
    page.get_by_role("button", name="Compare with this").click()
    page.get_by_label("age", exact=True).fill("75")
    page.get_by_label("country").select_option("us")
    expect(table.get_by_role("row", name="hero")).to_contain_text("points")
    expect(table.get_by_role("row", name="hero")).not_to_contain_text(before.split("±")[0].split()[-1])
    page.get_by_label("explore (now").fill("1")
    expect(page.get_by_text("with a probability of 33.3 %")).to_be_visible()
    page.get_by_text("Probabilities by slice").click()
    slices = page.get_by_role("region", name="Probability of each arm in each slice")
    assert [head.split(" (")[0] for head in slices.get_by_role("columnheader").all_inner_texts()] == [
        "Arm", "learned", "random",
    ]  # fmt: skip
    expect(slices.get_by_role("row", name="hero").get_by_role("cell").last).to_have_text("33.3 %")
    assert sum(row["impressions"] for row in site.experiment.seen().values()) == seen


def test_figures_are_those_of_the_server(admin: Visit, site: Site) -> None:
    """The overview's counts, the lift's sentence, and a chart's figures in its table."""
    page = admin.open(site.pages()["overview"])
    expect(page.get_by_text("600 in ")).to_be_visible()
    page.locator("#lift").scroll_into_view_if_needed()
    expect(page.locator("section:has(> .title #lift) .lead")).to_contain_text("learned")
    chart = page.locator("figure").filter(has_text="Traffic of the arms")
    assert "figures are in the table below" in (chart.get_by_role("img").get_attribute("aria-label") or "")
    chart.get_by_text("Figures").click()
    expect(chart.locator("tbody tr").first).to_be_visible()
    rows = [row.get_by_role("cell").all_inner_texts() for row in chart.locator("tbody tr").all()]
    (shares, *_) = [row for row in rows if "–" not in row]
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)


def test_an_outage_is_said_and_what_was_there_stays(admin: Visit, site: Site) -> None:
    """Old figures are shown as old; when the store is back, they go on by themselves."""
    admin.page.clock.install()
    page = admin.open(site.pages()["arms"])
    page.route("**/v1/**", refusal("store_unavailable", 503))
    page.clock.run_for(6_000)
    expect(page.get_by_text("The store is away").first).to_be_visible()
    expect(page.get_by_text("What is shown is from").first).to_be_visible()
    expect(page.get_by_role("rowheader", name="hero").first).to_be_visible()
    page.unroute("**/v1/**")
    page.clock.run_for(65_000)
    expect(page.get_by_text("The store is away")).to_have_count(0)


def test_an_experiment_that_is_deleted_meanwhile_is_said_to_be_gone(admin: Visit, server: Live) -> None:
    """With a way back, and no figures that could be taken for those of now."""
    made = server.experiment(**DOCUMENT)
    admin.page.clock.install()
    page = admin.open(f"e/{made.name}/change")
    assert server.client.delete(made.at, params={"confirm": made.name}).status_code == 204
    page.clock.run_for(35_000)
    expect(page.get_by_text("There is no such experiment.")).to_be_visible()
    expect(page.locator("main form")).to_have_count(0)


def test_a_page_that_is_opened_in_an_outage_comes_when_it_is_over(admin: Visit, site: Site) -> None:
    """Within seconds, although an experiment's document is looked at each half minute only."""
    admin.page.clock.install()
    page = admin.page
    page.route("**/v1/experiments/**", refusal("store_unavailable", 503))
    page.goto(f"{site.live.url}/dashboard#/{site.pages()['arms']}")
    expect(page.get_by_text("The store is away").first).to_be_visible()
    page.unroute("**/v1/experiments/**")
    page.clock.run_for(3_000)
    expect(page.get_by_role("rowheader", name="hero").first).to_be_visible()


@pytest.mark.parametrize(
    ("typed", "taken"), [("0,5", "0.5"), ("1e-2", "0.01"), ("1,000", None), ("half", None), ("-1", None)]
)
def test_a_number_is_what_was_typed_or_is_refused(admin: Visit, site: Site, typed: str, taken: str | None) -> None:
    """A decimal comma is read; what is no number, or could be two, stays, is said, and cannot be sent."""
    page = admin.open(site.pages()["change"])
    alpha = page.get_by_label("alpha")
    alpha.press("Control+a")
    page.keyboard.type(typed)
    page.get_by_label("sale").fill("0.02")
    expect(alpha).to_have_value(taken or typed)
    page.get_by_role("button", name="Show what would change").click()
    if taken is None:
        expect(alpha).to_be_focused()
        expect(alpha).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="Undo edits").click()
        expect(alpha).to_have_value("")  # "auto"
    else:
        places = page.get_by_role("dialog").locator("li").filter(has_text="/policy/alpha")
        expect(places.locator("ins")).to_have_text(taken)


def test_what_is_said_is_of_this_page(admin: Visit, site: Site) -> None:
    """A screen reader that reads on finds no result of the page before."""
    page = admin.open(site.pages()["overview"])
    page.locator("#lift").scroll_into_view_if_needed()
    status = page.locator("[role=status]")
    expect(status).to_contain_text("learned")
    page.get_by_role("link", name="Arms", exact=True).click()
    expect(status).to_have_text("")
    page = admin.open(site.pages()["overview"])
    page.locator("#lift").scroll_into_view_if_needed()
    expect(status).to_contain_text("learned")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="A key, please")).to_be_visible()
    expect(status).to_have_text("")


def asked_of(page: Page) -> list[str]:
    """Addresses that are asked for from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url))
    return found


def test_a_refresh_moves_no_focus_and_stops_when_told(admin: Visit, site: Site) -> None:
    """A button that is focused stays so while figures change; paused, nothing is asked any more."""
    admin.page.clock.install()
    page = admin.open(site.pages()["arms"])
    button = page.get_by_role("button", name="Pause list")
    button.focus()
    with page.expect_response(lambda response: "/arms?" in response.url):
        page.clock.run_for(6_000)
    expect(button).to_be_focused()
    page.get_by_role("button", name="Pause updates").click()
    asked = asked_of(page)
    page.clock.run_for(300_000)
    assert asked == []
    page.get_by_role("button", name="Paused").click()
    expect(page.get_by_role("button", name="Pause updates")).to_be_visible()
    with page.expect_response(lambda response: "/arms?" in response.url):
        page.clock.run_for(6_000)


def test_nothing_is_asked_while_nobody_looks(admin: Visit, site: Site) -> None:
    """A hidden tab rests; seen again, it asks at once."""
    admin.page.clock.install()
    page = admin.open(site.pages()["arms"])
    turn = (
        "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.evaluate(turn % "true")
    page.clock.run_for(1_000)
    asked = asked_of(page)
    page.clock.run_for(300_000)
    assert asked == []
    with page.expect_response(lambda response: "/arms?" in response.url):
        page.evaluate(turn % "false")


def test_an_empty_server_says_how_to_begin(admin: Visit) -> None:
    """Not an empty table."""
    admin.page.route("**/v1/experiments?*", answer({"experiments": []}))
    admin.page.route("**/v1/summary?*", answer({"experiments": []}))
    page = admin.open()
    page.get_by_role("link", name="Make one").click()
    expect(page.get_by_role("heading", name="New experiment")).to_be_visible()


SAMPLE = "age,country,member,area,click\n" + "".join(
    f"{20 + i % 40},{('cn', 'us')[i % 2]},{('true', 'false')[i % 3 == 0]},{('hero', 'list')[i % 2]},{i % 5 == 0:d}\n"
    for i in range(60)
)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_file_is_read_in_the_letters_that_it_was_written_in(admin: Visit, encoding: str) -> None:
    """What a spreadsheet writes by default is no UTF-8: it is read all the same, and that it was guessed is said."""
    page = admin.open("new")
    page.get_by_text("Begin with a sample").click()
    text = SAMPLE.replace("country", "Gerät").replace("hero", "Grüße")
    file = {"name": "sample.csv", "mimeType": "text/csv", "buffer": text.encode(encoding)}
    page.get_by_label("A file").set_input_files([file])
    expect(page.get_by_label("What Gerät is")).to_be_visible()
    expect(page.get_by_text("read as Windows-1252")).to_have_count(int(encoding == "cp1252"))


def test_an_experiment_is_made_from_a_sample(admin: Visit, server: Live) -> None:
    """Features are proposed with why, can be edited, are checked, and only then is anything made."""
    page = admin.open("new")
    page.get_by_text("Begin with a sample").click()
    page.get_by_label("Or paste rows").fill(SAMPLE)
    page.get_by_role("button", name="Propose features").click()
    expect(page.get_by_role("heading", name="What the sample says")).to_be_visible()
    assert admin.violations() == []
    expect(page.get_by_role("group", name="feature 4")).to_be_visible()
    page.get_by_label("What area is").select_option("arm")
    expect(page.get_by_label("Arms, one a line")).to_have_value("hero\nlist")
    expect(page.get_by_role("group", name="feature 4")).to_have_count(0)
    page.get_by_label("Name", exact=True).first.fill("from-sample")
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_role("dialog")).to_contain_text("The experiment is new.")
    assert server.client.get("/v1/experiments/from-sample").status_code == 404
    page.get_by_role("button", name="Create it").click()
    expect(page.get_by_role("heading", level=1, name="from-sample")).to_be_visible()
    made = ok(server.client.get("/v1/experiments/from-sample"))
    assert {"age", "country", "member"} <= {feature["name"] for feature in made["features"]}


@pytest.mark.parametrize("looked", [False, True], ids=["before-the-look", "after-it"])
def test_what_is_made_replaces_nothing(admin: Visit, server: Live, looked: bool) -> None:
    """Two may want the same name at once: the second is told so, at whichever moment, and the first keeps its own."""
    name = f"wanted-{looked}".lower()
    page = admin.open("new")
    page.get_by_label("Name", exact=True).first.fill(name)
    page.get_by_label("Arms, one a line").fill("a\nb")
    if looked:
        page.get_by_role("button", name="Check it").click()
        expect(page.get_by_role("dialog")).to_be_visible()
    first = {**DOCUMENT, "arms": ["theirs", "too"]}
    assert server.client.put(f"/v1/experiments/{name}", json=first).status_code == 201
    page.get_by_role("button", name="Create it" if looked else "Check it").click()
    told = "Somebody else was first." if looked else "There is one of that name already."
    expect(page.get_by_text(told)).to_be_visible()
    found = ok(server.client.get(f"/v1/experiments/{name}"))
    assert (found["version"], found["arms"]) == (1, ["theirs", "too"])


def test_another_policy_is_chosen_tried_out_and_explained(admin: Visit, server: Live) -> None:
    """Made in the form with numbers of its own; tried out and changed by these; a decision's explanation fits it."""
    page = admin.open("new")
    page.get_by_label("Name", exact=True).first.fill("by-softmax")
    page.get_by_label("Arms, one a line").fill("a\nb\nc")
    page.get_by_label("explore").fill("0.1")
    page.get_by_label("Policy").select_option("softmax")
    expect(page.get_by_label("alpha")).to_have_count(0)
    expect(page.get_by_label("explore")).to_have_value("0.1")
    page.get_by_label("temperature").fill("0.5")
    page.get_by_label("Random slice").fill("0")
    assert admin.violations() == []
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("button", name="Create it").click()
    expect(page.get_by_role("heading", level=1, name="by-softmax")).to_be_visible()
    made = ok(server.client.get("/v1/experiments/by-softmax"))
    assert made["policy"] == {"type": "softmax", "temperature": 0.5, "explore": 0.1}
    page = admin.open("e/by-softmax/what-if")
    page.get_by_label("temperature (now 0.5)").fill("2")
    expect(page.get_by_text("with a probability of 33.3 %")).to_be_visible()
    page = admin.open("e/by-softmax/change")
    expect(page.get_by_role("group", name="Policy: softmax").get_by_label("temperature")).to_have_value("0.5")
    ok(server.client.post("/v1/experiments/by-softmax/recommendations", json={"decision_id": "d"}))
    page = admin.open("e/by-softmax/decision/d")
    expect(page.get_by_role("columnheader", name="Uncertainty (sigma × width)")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Bonus")).to_have_count(0)


def test_ten_thousand_arms_come_by_pages(admin: Visit, server: Live) -> None:
    """What is left out is said, and reached."""
    made = server.experiment(features=[], arms=[f"arm-{i}" for i in range(10_000)])
    page = admin.open(f"e/{made.name}/arms")
    expect(page.get_by_text("50 arms of 10,000")).to_be_visible()
    expect(page.get_by_role("rowheader", name="arm-0", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Next").first.click()
    expect(page.get_by_role("rowheader", name="arm-50", exact=True).first).to_be_visible()
    assert page.locator("tbody tr").count() <= 100
    page = admin.open(f"e/{made.name}/model")
    page.get_by_label("For the arm (10,000)").fill("arm-9999")
    page.keyboard.press("Enter")
    expect(page.get_by_text("arm-9999: weighted reward")).to_be_visible()
