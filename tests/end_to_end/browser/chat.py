"""The pages of the demo, as a person uses them."""

from __future__ import annotations

from playwright.sync_api import Error, Locator, Page, expect

# The test machine may be busy; a step that succeeds takes far less.
PATIENCE_MS = 20_000

# Chainlit replaces the field, and what was typed into it, twice: when the messages of a resumed
# thread arrive, the one on the welcome screen, and when the address of a new chat changes from / to
# /thread/ID, the one below the first answer. The sidebar marks a thread once its page is drawn.
SETTLED = """() => {
    const field = document.querySelector("#chat-input");
    const fresh = field !== null && field.closest("#welcome-screen") !== null;
    if (field === null || fresh !== (location.pathname === "/")) return false;
    const id = location.pathname.split("/").pop();
    return fresh || document.querySelector(`[id="thread-${id}"] [data-active=true]`) !== null;
}"""

expect.set_options(timeout=PATIENCE_MS)


class Chat:
    """One tab of a browser on the demo."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        page.set_default_timeout(PATIENCE_MS)

    def log_in(self, name: str) -> None:
        self.page.goto(self.address)
        self.page.fill("input#email", name)
        self.page.fill("input#password", name)
        self.page.get_by_role("button", name="Sign In").click()
        expect(self.composer).to_be_visible()

    @property
    def composer(self) -> Locator:
        return self.page.locator("#chat-input")

    @property
    def submit(self) -> Locator:
        return self.page.locator("#chat-submit")

    @property
    def thread_id(self) -> str:
        """The thread the address bar names."""
        self.page.wait_for_url("**/thread/*")
        return self.page.url.rpartition("/")[2]

    def ask(self, question: str) -> None:
        """Send ``question`` and wait for the whole answer."""
        self._type(question)
        self._send()

    def attach(self, words: str, name: str, mime: str, content: bytes) -> None:
        """Send ``words`` with a file and wait for the whole answer."""
        self._type(words)
        with self.page.expect_response("**/project/file?*") as answer:
            self.page.locator("input[type=file]").first.set_input_files(
                {"name": name, "mimeType": mime, "buffer": content}
            )
        assert answer.value.ok
        # From here on the button is disabled until the page has seen that response, too.
        expect(self.page.locator("#attachments")).to_be_visible()
        self._send()

    def _type(self, words: str) -> None:
        """Fill the field that stays, and wait for the socket: without it an upload fails."""
        self._settle()
        self.composer.fill(words)
        expect(self.submit).to_be_enabled()

    def _settle(self) -> None:
        try:
            self.page.wait_for_function(SETTLED)
        except Error as exc:
            shown = self.page.locator("body").inner_text()
            raise AssertionError(f"{self.page.url} shows no field that stays: {shown}") from exc

    def _send(self) -> None:
        answered = self.answers.count()
        self.submit.click()
        expect(self.answers).to_have_count(answered + 1)
        # Chainlit offers the thumbs once an answer is complete.
        expect(self.answers.last.locator("svg.lucide-thumbs-down")).to_be_visible()

    def open(self, thread_id: str) -> None:
        """Open a thread by its address and wait until you can go on with it."""
        self.page.goto(f"{self.address}/thread/{thread_id}")
        self._settle()
        expect(self.answers.last).to_be_visible()

    @property
    def questions(self) -> Locator:
        return self.steps("user_message")

    @property
    def answers(self) -> Locator:
        return self.steps("assistant_message")

    def steps(self, kind: str) -> Locator:
        return self.page.locator(f"[data-step-type={kind}]")

    def transcript(self) -> list[tuple[str, str]]:
        """Type and text of every step shown, with the tools unfolded, from top to bottom."""
        folded = self.page.locator('[data-step-type=tool] button[aria-expanded="false"]')
        while folded.count():
            folded.first.click()
        shown: list[tuple[str, str]] = []
        for step in self.page.locator("[data-step-type]").all():
            kind = step.get_attribute("data-step-type") or ""
            shown.append((kind, " ".join(step.inner_text().split())))
        return shown

    @property
    def sidebar(self) -> Locator:
        """The threads in the sidebar."""
        return self.page.locator('[data-sidebar="sidebar"] a[href*="/thread/"]')

    def sidebar_entry(self, thread_id: str) -> Locator:
        return self.page.locator(f'a[href="/thread/{thread_id}"]')

    def choose(self, thread_id: str, action: str) -> None:
        """Pick ``rename``, ``share`` or ``delete`` from the thread's menu in the sidebar."""
        entry = self.sidebar_entry(thread_id)
        entry.hover()
        entry.locator("#thread-options").click()
        self.page.locator(f"#{action}-thread").click()

    @property
    def dialog(self) -> Locator:
        return self.page.locator("[role=dialog], [role=alertdialog]")

    def expect_notice(self, text: str) -> None:
        """Wait until the app says ``text`` in a corner."""
        expect(self.page.locator("[data-sonner-toast]", has_text=text).first).to_be_visible()

    def search(self, words: str) -> Locator:
        """Type ``words`` into the search dialog; the threads it offers."""
        self.page.locator("#search-chats-button").click()
        with self.page.expect_response("**/project/threads") as answer:
            self.dialog.locator("input").fill(words)
        assert answer.value.ok
        return self.dialog.locator("[role=option]")

    def fetch(self, method: str, path: str, body: object = None) -> int:
        """The status of a request with this user's login, as a script would make it."""
        response = self.page.request.fetch(
            f"{self.address}{path}", method=method, data=body, fail_on_status_code=False
        )
        return response.status
