"""Phrases of the web shop's support tickets, in the grammar of `ticket_grammar`."""

from __future__ import annotations

from proxy.ticket_grammar import patterns

GREETINGS = "[||||Hi,|Hello,|Hi there,|Good morning,|Hey,|Dear team,|Dear support,|Hello again,|Hi all,|Good evening,]"
SIGN_OFFS = (
    "[|||||Thanks.|Thank you!|Thanks, {name}|Regards, {name}|Best, {name}|Cheers, {name}|{name}|Please help."
    "|Waiting for your reply.|Many thanks]"
)
ASIDES = (
    "[|||||Bought {when}.|I am a customer since {month}.|It is for my [son|daughter|mother|boss|neighbour|office]."
    "|I live in {place}.|This concerns {order}.|I wrote {when} too.|Nobody answers the phone.|See {order}.|I like your shop."
    "|My {product} was fine though.|I use {browser}.|Not in a hurry.]"
)

TRIAGE = patterns("""
billing_refund
- [I want|I'd like|can I get|please send|I am waiting for|where is|when do I get] [my money back|a refund|the
  refund|{amount} back|a full refund|my {amount}] [for|on|regarding] [the {product}|{order}|the returned {product}]. [I sent
  it back|It was returned|You got it back|The return arrived] {when}.
- [You charged me|I was charged|I got billed|My card was charged|I paid] [twice|two times|double|{amount} too much|{amount}
  more than agreed] [for|on] [{order}|the {product}|one {product}] {when}. [Refund|Please refund|Kindly return|Give
  back|Credit me] [the difference|the extra|that amount|{amount}].
- [Returned|Sent back] [the|my] {product} {when} [but|and] [the refund|my money|the credit|{amount}] [is not on my
  account|never came|is still missing|has not shown up|did not appear].
login_access
- [I can't|I cannot|I am unable to|Can no longer|It won't let me] [log in|sign in|get into my account|access my account|open
  my profile] [since {when}|on my {device}|with {browser}|after the update|any more]. [The password|My password|The code|The
  reset link|The email link] [is refused|is wrong it says|never arrives|has expired|does nothing|is not accepted].
- [My account|The account|My profile|My login] [is locked|got locked|was blocked|is disabled|is frozen] [after|because of]
  [{few} wrong passwords|too many tries|a password reset|a new {device}]. [Unlock it|Please unlock|How do I get back in|Let
  me in again|Reset it] [please|soon|for {name}|today|].
- [Password reset|Two factor login|The sign in code|The login page] [fails|does not work|goes nowhere|keeps looping|is
  rejected] [on|with] [{browser}|my {device}]. [I lost|I changed|I forgot] my [password|phone
  number|username|authenticator].
delivery_delay
- [My parcel|The package|{order}|The {product}|My delivery|The shipment] [has not arrived|is late|still isn't here|never
  came|did not turn up|is overdue]. [It was due|You promised|Tracking said|It should have come|The courier said] {when}.
  [Where is it|Any news|When will it come|What is going on]?
- [Tracking|The tracking page|The courier|The carrier status] [has not moved|shows nothing|says in transit|is stuck in
  {place}|has been silent] since {when}. [I still wait for|No sign of|Where is] [the {product}|{order}|my parcel|my
  package].
- [I am still waiting for|Still no sign of|How long until I get|When will you ship|Why is it taking so long for] [the
  {product}|{order}|my parcel], [ordered|bought|paid for|placed] {when}, [to {place}|express delivery|standard shipping|by
  courier].
damaged_item
- [The {product}|My {product}|The item|{order}] [arrived|came|was delivered|showed up|got here]
  [broken|cracked|scratched|dented|smashed|torn|in pieces|damaged] {when}. [The box was|The packaging was|One corner is|The
  lid is|The glass is|One side is] [crushed|open|split|wet|shattered|bent].
- [Unpacked|Opened|Just unboxed|Took out] [the|my] {product} {when} and [it is cracked|a part is broken|it has a big
  scratch|the handle snapped|a leg is bent|the screen is smashed|it is dented]. [Can you replace it|I need a
  replacement|Send a new one|Please exchange it|I have photos].
- [There is a crack|There is a dent|I found a hole|I see scratches|There are stains|There is a chip] [in|on] the {product}
  [from {order}|you delivered {when}|that came {when}]. [Replacement please|Want an undamaged one|Please swap it|I can send
  pictures].
cancel_subscription
- [Please cancel|I want to cancel|Cancel|I'd like to end|Stop|Terminate] [my|the|our] [subscription|membership|monthly
  plan|premium plan|yearly plan|box subscription] [as of {month}|from {month}|right away|before {dom} {month}|at the end of
  {month}]. [I don't use it|It's too expensive|We moved to {place}|No longer needed|Found another one].
- [How do I|Where can I|What must I do to|Help me] [unsubscribe|cancel|stop|quit|end] [the plan|the membership|my
  subscription|the auto renewal|premium]? [There is no button in|I find nothing in|I looked in|It is hidden in] {browser},
  [tried {when}|since {when}|checked {when}].
- [Don't renew|Do not extend|I won't continue|Not going to keep] [my|the] [membership|subscription|plan|trial] [after {dom}
  {month}|past {month}|next month|this year]. [Confirm the cancellation|Send me a confirmation|Please confirm|Tell me it's
  done] [by mail||in writing|soon].
invoice_copy
- [I need|Please send|Could you email|Can I have|My accountant wants|I am missing|We require] [an invoice|the invoice|a
  receipt|a copy of the bill|a VAT invoice|the tax invoice] for [{order}|the {product}|my purchase in {month}|what I bought
  {when}|{amount} paid {when}].
- [The invoice|The receipt|The bill|The PDF invoice] for [{order}|the {product}|{month}] [is missing|has no VAT number|shows
  the wrong company|never came|cannot be downloaded]. [Send it again|Please reissue it|I need it for taxes|Our bookkeeping
  needs it|Please correct it].
- [For my taxes|For bookkeeping|For the tax office|For my expenses|For our company|{name} from accounting says] [I need|we need|we
  must have|please send] [a copy|a duplicate|a PDF|a proper version|two prints] of the [receipt|invoice|bill] [dated|from]
  [{dom} {month}|{month}], [{amount}|{order}|the {product}].
payment_failed
- [My card|The credit card|My visa|PayPal|The bank transfer|My debit card|Apple pay] [was declined|is rejected|got
  refused|does not go through|fails] [at checkout|when I pay|on the payment page|while buying the {product}|with {browser}].
  [I tried {few} times|There is enough money|The bank says all fine|Also {when}].
- [Checkout|The payment|Paying|The payment step|My payment] [fails|is declined|ends in an error|is refused|gets rejected]
  [for the {product}|over {amount}|for {order}|every time], [card is valid|bank approved it|tried PayPal too|another card
  fails too|code from bank was right].
- [I cannot pay|Unable to pay|Can't complete payment|How can I pay] [for the {product}|{amount}|my basket|{order}]? [It
  says|The message is|I get] [card declined|payment refused|transaction rejected|payment error|not authorised] [{when}|since
  {when}|with {browser}|on my {device}].
change_address
- [I moved|We moved|I am moving|We are relocating|Our office moved] to {place} {when}. [Please update|Change|Can you
  correct|Kindly change] [my address|the delivery address|the shipping address|my postal address] [for {order}|in my
  account|on {order}|for the {product}|before you ship].
- [Wrong address|Old address|I typed the wrong street|The house number is wrong|My postcode is wrong] [on|for] [{order}|the
  {product}|my last order]. [Send it to|Ship it to|It should go to|Please deliver to|Redirect it to] {number}
  [Mill|Station|Park|Church|River|Garden|King] [Road|Street|Lane], {place}.
- [Can the {product} go|Could you deliver {order}|Please ship {order}|Is it possible to send the {product}] to [my office|my
  neighbour|a new address|another street|a pickup shop] in {place} [instead|instead of {place}|rather than my home]?
technical_bug
- [The app|Your website|The page|The search|The basket|The filter|The wish list] [crashes|freezes|shows a blank
  screen|throws error {number}|hangs|loads forever] [when I|each time I|as soon as I|whenever I] [open the {product}
  page|scroll|tap a photo|sort by price|zoom in|add a {product}|rotate my {device}].
- [Found a bug|There is a bug|Something is broken|I see a glitch] in {browser}: [images do not load|buttons do nothing|the
  menu overlaps|text is cut off|the page is blank|prices show as zero] [on my {device}|since {when}|for every
  {product}|after the update {when}].
- [Since the update|After updating|Since version {few}|With the latest version] {when} {browser} [crashes|freezes|is very
  slow|closes itself|shows error {number}] on my {device}. [Reinstalled it|Cleared the cache|Restarted it|Screenshot
  attached|Please fix].
general_question
- [Do you|Does your shop|Will you|Can you] [ship to|have a store in|deliver to|open a branch in] {place}? [And|Also] [what
  does it cost|how long is the warranty|do you gift wrap|what are the opening hours|is parking free]?
- Is the {product} [available in green|back in stock|in stock|dishwasher safe|suitable for beginners|compatible with
  my {device}|on sale] [in {month}|soon|again|before {month}]? [How heavy is it|What size is it|Which colours exist|What is
  it made of|How long is the warranty]?
- [Quick question|Just curious|I was wondering|A question]: [what are your opening hours|do you have gift cards|is there a
  student discount|can I visit the showroom|are you hiring|do you sell spare parts] [in {place}|on {day}|in {month}|for a
  {product}|for schools]?
""")

EMPTYISH = ("help", "??", "hello", "...", "hi", "test", "question", "ok", "anyone there?", "see above", "pls", "-")


FOREIGN_TRIAGE = patterns("""
billing_refund
- Ich möchte mein Geld zurück für {order}, die Rücksendung kam {number} an.
- Quiero el reembolso de {amount}, devolví el pedido {number}.
login_access
- Ich kann mich nicht anmelden, mein Passwort geht auf dem {device} nicht.
- No puedo entrar en mi cuenta, la contraseña falla en {browser}.
delivery_delay
- Mein Paket {number} ist immer noch nicht in {place} angekommen.
- El paquete {number} todavía no ha llegado a {place}.
damaged_item
- Die Ware aus {order} kam kaputt an, ein Teil ist zerbrochen.
- El artículo del pedido {number} llegó roto, necesito otro.
cancel_subscription
- Bitte kündigen Sie mein Abo {number} zum Monatsende.
- Quiero cancelar mi suscripción {number} desde este mes.
invoice_copy
- Ich brauche die Rechnung zu {order} für das Finanzamt.
- Necesito la factura del pedido {number} para mis impuestos.
payment_failed
- Meine Karte wird beim Bezahlen von {amount} abgelehnt.
- Mi tarjeta fue rechazada al pagar {amount}.
change_address
- Wir ziehen nach {place}, bitte ändern Sie die Adresse zu {order}.
- Me mudé a {place}, cambien la dirección del pedido {number}.
technical_bug
- Die App stürzt auf meinem {device} ab, Fehler {number}.
- La aplicación se cierra en mi {device}, error {number}.
general_question
- Liefern Sie auch nach {place} und was kostet das?
- ¿Tienen una tienda en {place} y a qué hora abren?
""")
