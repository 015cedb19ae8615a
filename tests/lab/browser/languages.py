"""The languages of the page: chosen by the browser, with its spelling of numbers."""

import re

from installation import ALARMED, HEALTHY, NAMES
from session import DESKTOP, PHONE

# Locale of the browser, language of the page, and a text of the list, of a battery, and of an alarm.
LANGUAGES = (
    ("de-AT", "de", "Batterien", "Letzter Fehler|Zuletzt gelesen", "Zellspannung zu hoch"),
    ("cs-CZ", "cs", "Baterie", "Interval čtení", "Příliš vysoké napětí článku"),
    ("fr-FR", "fr", "Batteries", "Lectures échouées", "Tension de cellule trop haute"),
    ("en-GB", "en", "Batteries", "Failed reads", "cell voltage high"),
    # A language that the page does not have.
    ("pl-PL", "en", "Batteries", "Failed reads", "cell voltage high"),
)


def languages(session):
    for locale, language, title, text, alarm in LANGUAGES:
        for size in (PHONE, DESKTOP):
            with session.page(size, locale=locale) as page:
                list_and_battery(session, page, locale, language, title, text, alarm, size[0])
    session.check_console("every language")


def list_and_battery(session, page, locale, language, title, text, alarm, width):
    name = f"{locale}, {width} px"
    page.wait_for_selector(".card .power small")
    page.wait_for_selector(".card .problems li")
    session.check_page(f"all batteries in {name}", page)
    # Volts on the card, with the decimal sign of the language.
    card = session.card(page, HEALTHY).inner_text()
    sign = r"\." if language == "en" else ","
    faults = [] if re.search(rf"\d{sign}\d\d V", card) else [f"no number of {language} in {card!r}"]
    if page.inner_text("h1") != title:
        faults.append(f"the title is {page.inner_text('h1')!r}")
    if page.evaluate("document.documentElement.lang") != language:
        faults.append("the language of the document is another one")
    alarms = session.card(page, ALARMED).locator(".problems").inner_text()
    if f"{NAMES[ALARMED]}: {alarm}" not in alarms:
        faults.append(f"the alarm is {alarms!r}")
    session.report(f"titles, numbers and alarms in {name}", faults)
    session.open_view(page, ALARMED)
    page.wait_for_selector(".plot .line", state="attached")
    session.check_page(f"a battery in {name}", page)
    found = re.search(text, page.inner_text("main"))
    session.report(f"labels in {name}", [] if found else [page.inner_text("main")[:300]])
    session.screenshot(page, f"language-{locale}-{width}")
