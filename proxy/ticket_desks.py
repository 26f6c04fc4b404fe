"""Phrases of the other desks, of the closed-label side tasks and of the replies, in the grammar of `ticket_grammar`.

The desks sort their mail into queues too, with queues of their own, so that mixed traffic holds many kinds of label.
"""

from __future__ import annotations

from proxy.ticket_grammar import patterns

IT_DESK = patterns("""
password_reset
- [I forgot|I lost|I mistyped] my [windows|mail|vpn|database] password {when}, [please reset it|need a new one|can you
  unlock my login].
printer_failure
- [The printer|Our copier|The scanner] [on floor {few}|in {place}|next door] [jams|prints blank pages|is offline|has no
  toner] since {when}.
software_install
- [Please install|I need|Could I get] [Photoshop|Excel|a PDF editor|the new client|Python] on my {device} [for a
  project|before {day}|with admin rights].
network_outage
- [The wifi|Our network|The internet|The VPN] [is down|drops out|is very slow|does not connect] in [{place}|room {number}]
  since {when}, [everyone waits|no access].
hardware_order
- [I need|We want to order|Please buy] [a new|another|a second] [monitor|keyboard|mouse|headset|dock] for {name} [before
  {day}|in {place}|from {month}].
mailbox_access
- [Give|Please grant] {name} access to the [sales|support|shared|team] mailbox [from {day}|until {month}], [the folder is
  hidden|login is refused].
data_recovery
- [I deleted|I overwrote|I lost] [a folder|a report|my files|the budget sheet] {when}, [is there a backup|please restore
  it|can you recover it]?
phishing_report
- [I got|Received|There was] [a strange|a fake|an odd] mail {when} asking for [my password|a payment of {amount}|gift
  cards], [I clicked the link|did not open it].
laptop_repair
- My {device} [has a cracked screen|battery is dead|makes noise|is broken|fell down] {when}, [can you repair it|need a spare
  one|who fixes it]?
meeting_room_tech
- [The projector|The camera|The microphone|The screen] in room {number} [stays black|does not work|crashes|is missing]
  [before our meeting|since {when}].
""")

HR_DESK = patterns("""
leave_request
- [I'd like|I want|Can I take] [a week off|{few} days of leave|holidays|unpaid leave] [in {month}|from {day}|around {dom}
  {month}], [is that fine|please approve].
payslip_error
- My [payslip|salary] for {month} [is wrong|misses {amount}|shows too little|has the wrong tax class], [overtime is
  missing|please correct].
sick_note
- [I am ill|I have the flu|I was at the doctor] since {when}, [the certificate is attached|back on {day}|my sick note
  follows].
job_application
- [I apply|My application|I'd like to apply] for the [driver|designer|sales|warehouse] job in {place}, [my CV is
  attached|can start in {month}].
contract_change
- [I want|Can I get|I ask for] [part time|fewer hours|a longer contract|home office days] [from {month}|after {dom}
  {month}], [what changes in my contract]?
training_booking
- [Please book|I'd like to join|Sign me up for] the [first aid|leadership|Excel|language] course [in {place}|in {month}|on
  {day}].
expense_claim
- [I paid|My expenses were|Please reimburse] {amount} for [a taxi|the train|a hotel|lunch with clients] in {place} {when},
  [receipts attached|when is it paid].
parental_leave
- [Our baby is due|I am pregnant|We expect a child] in {month}, [how long is parental leave|what must I sign|when do I
  stop]?
reference_letter
- [I need|Please write|Could I have] [a reference|a work certificate|a letter of employment] [for my new job|for {name}|by
  {day}|for a flat in {place}].
bank_account_change
- [My bank account changed|I have a new bank|Please use my new account] [from {month}|since {when}], [pay my salary
  there|old one is closed].
""")

BANK_DESK = patterns("""
card_lost
- [I lost|I cannot find|Someone stole] my [debit|credit|bank] card in {place} {when}, [block it|please freeze it|send
  another].
card_not_arrived
- [My new card|The replacement card|The card I ordered] {when} [has not arrived|is still not here|never came], [when will it
  be delivered|is it lost in the mail]?
loan_question
- [I want|I'd like|Can I get] a loan [of {amount}|for a car|for a house in {place}], [what is the rate|how long does
  approval take].
transfer_pending
- [My transfer|The wire|A payment] of {amount} to {name} {when} [is pending|has not arrived|still hangs], [when is it
  booked]?
fee_dispute
- [You took|There is|I see] a fee of {amount} [for a transfer|for cash in {place}|on {dom} {month}], [I dispute
  it|why|please return the fee].
pin_forgotten
- [I forgot|I mixed up|I don't remember] [my PIN|the card PIN|the code], [tried {few} times|the machine in {place} blocked
  it], [send a new PIN].
account_opening
- [I want to open|How do I open|Can we open] [an account|a joint account|a savings account] [with {name}|in {place}|for my
  son], [which papers]?
exchange_rate
- [What is|Which is|How good is] your exchange rate for [dollars|pounds|yen|francs] {when}, [I travel to {place}|need
  {amount} in cash].
fraud_alert
- [I did not make|Unknown|I don't recognise] [a payment|a purchase|a withdrawal] of {amount} in {place} {when}, [this is
  fraud|stop it].
statement_request
- [I need|Please send|Where do I find] [my statements|the account statement|a yearly statement] for {month}, [on paper|as
  PDF|for the tax office].
""")

TRAVEL_DESK = patterns("""
flight_change
- [I want to move|Please change|Can I rebook] my flight to {place} [from {day} to {day}|to {dom} {month}], [booking
  {number}|what does it cost].
baggage_lost
- [My suitcase|Our bag|My luggage] [did not arrive|is lost|was left behind] in {place} {when}, [tag {number}|it is black|I
  have no clothes].
hotel_complaint
- [The room|Our hotel|The bathroom] in {place} [was dirty|was loud|smelled|had no heating] {when}, [I want compensation|very
  unhappy with it].
seat_selection
- [I'd like|Can we get|Please reserve] [a window seat|an aisle seat|seats together|more legroom] on the flight to {place}
  [on {day}|for {few} people].
visa_question
- Do I need a visa for {place} [in {month}|for {few} days|with my passport], [how long does it take|where do I apply]?
trip_cancellation
- [I must cancel|We cancel|Please cancel] [our trip|the holiday|the booking {number}] to {place} [because {name} is ill|in
  {month}], [what do we get back].
group_booking
- [We are|A group of] {number} people [going to {place}|from a school], [need rooms|want an offer|looking for a bus] [in
  {month}|for {few} nights].
car_rental
- [I rented|I want to rent|Is there] a [car|van|small car] in {place} [from {day}|for {few} days], [which insurance|where do
  I pick it up|is {name} allowed to drive]?
loyalty_points
- [My points|The miles|My bonus points] from {place} {when} [are missing|were not added|expired], [member {number}|please
  add them].
pet_travel
- [Can my dog|May our cat|Is a small dog] [fly|travel|come along] to {place} [in the cabin|in {month}|with {name}], [what
  box|which vaccine]?
""")

CLINIC_DESK = patterns("""
appointment_booking
- [I need|Can I have|I'd like] an appointment [with Dr {name}|for my son|for a check up] [on {day}|in {month}|this week].
appointment_move
- [I can't come|Something came up|I have to work] on {day}, [please move|can we shift|reschedule] my appointment [to
  {day}|to {month}|with Dr {name}].
prescription_renewal
- [My pills|My tablets|My inhaler] [run out|are finished] [on {day}|in {few} days], [please renew the prescription|need a
  new prescription].
test_results
- [Are|Where are|When do I get] [my blood results|the lab results|the x-ray results] from {when}, [Dr {name} took
  them|please tell me].
insurance_question
- [Does my insurance|Will insurance|Does the health plan] [cover|pay for] [the treatment|new glasses|physiotherapy|a
  vaccine], [policy {number}|it costs {amount}]?
vaccination
- [I want|My daughter needs|We need] [a flu shot|a tetanus shot|travel vaccines] [before {month}|for {place}], [do you have
  it|when can we come].
medical_records
- [Please send|I need|I want] [a copy of my file|my medical records|my patient file] to [Dr {name} in {place}|my new
  doctor], [I moved|since {when}].
side_effects
- Since [the new pills|the shot|the tablets] {when} I have [a rash|headaches|bad sleep|nausea], [should I stop|is that
  normal]?
doctor_complaint
- [I waited {few} hours|The nurse was rude|Dr {name} did not listen] {when} in {place}, [I want to complain|this is not
  acceptable].
parking_directions
- [Where can I park|How do I get to the clinic|Is there a lift] [from {place}|on {day}|with a wheelchair], [which
  entrance|which bus]?
""")

URGENCY_CUES = patterns("""
low_priority
- [No rush|Take your time|Not urgent|Whenever you have time|No hurry at all|It can wait]
normal_priority
- [Please answer this week|A reply in the next days is fine|Let me know in a few days|Please look at it soon]
high_priority
- [I need it by tomorrow|It's quite urgent|Please hurry|I need an answer today|As fast as possible]
critical_priority
- [Emergency|Right now or we lose money|This stops our whole business|Drop everything|Urgent urgent urgent|Act within the
  hour]
""")

SENTIMENT_CUES = patterns("""
very_happy
- [You are wonderful|Best shop ever|I love your service|Great team as always]
calm_neutral
- [Just letting you know|For your information|This is a plain note|Facts only]
mildly_annoyed
- [A bit annoying|That is a pity|I expected better|Somewhat disappointed]
very_angry
- [This is outrageous|I am furious|Worst shop ever|Never again|You are a disgrace]
""")

ACTION_CUES = patterns("""
call_customer
- [Call me back|Please phone me|Ring me|I want a call] [on {day}|after lunch|tonight|at work]
send_email
- [Answer by email|Please write back|Email me|Send a written answer] [to my work address|this week|soon|]
ask_for_photo
- [I can take photos|Should I send pictures|Want to see a photo|Pictures follow if needed]
escalate_manager
- [I want to speak to a manager|Get me your boss|Who is in charge|Let your supervisor read this]
offer_voucher
- [A voucher would be fine|Give me a discount code|Store credit is enough|A coupon is ok]
close_ticket
- [Already solved, ignore this|You can close it|It works again, never mind|Please disregard]
book_technician
- [Send someone over|Can a technician visit|Have someone come by|I need a repair visit]
wait_for_customer
- [I will send details later|More from me {day}|Wait for my next message|I look it up and come back]
""")

SPAM = patterns("""
advertising_spam
- [Boost your sales|Rank first on search|Buy cheap followers|Best SEO offer] [today|from {amount}|in {place}|with {few}
  clicks], [visit our site|limited offer|reply now].
scam_attempt
- [You won|You inherit|A prince sends|Claim] {amount} [from a lottery|from {place}|in bitcoin], [send your bank details|pay
  a small fee|act {when}].
job_solicitation
- [We offer|I offer|Our agency has] [cheap developers|design work|link building|virtual assistants] from {place}, [can we
  talk on {day}|rates from {amount}].
""")

LANGUAGES = patterns("""
lang_german
- [Guten Tag|Hallo], [ich habe eine Frage zu|wo ist|ich warte auf|was ist mit] [Bestellung {number}|meinem Paket|meiner
  Rechnung] [aus {place}|vom {dom}.|seit {few} Tagen|].
lang_french
- Bonjour, [j'ai une question sur|où est|j'attends toujours|je voudrais annuler] [la commande {number}|mon colis|ma facture]
  [de {place}|depuis lundi|s'il vous plaît].
lang_spanish
- Hola, [tengo una pregunta sobre|dónde está|sigo esperando|quiero cancelar] [el pedido {number}|mi paquete|mi factura] [de
  {place}|desde el lunes|por favor].
lang_italian
- Buongiorno, [ho una domanda su|dov'è|aspetto ancora|vorrei annullare] [l'ordine {number}|il mio pacco|la fattura] [da
  {place}|da lunedì|per favore].
lang_dutch
- Goedendag, [ik heb een vraag over|waar is|ik wacht nog op|ik wil annuleren] [bestelling {number}|mijn pakket|mijn
  rekening] [uit {place}|sinds maandag|alstublieft].
""")

REPLIES = patterns("""
billing_refund
- [we have started your refund|your refund is on its way]. It takes {few} working days.
login_access
- [we unlocked your account|we sent you a new reset link]. Please try to sign in again.
delivery_delay
- [we asked the courier about your parcel|your parcel is being traced]. You hear from us by {day}.
damaged_item
- [a replacement is on its way|we will replace the item]. Please keep the damaged one until {day}.
cancel_subscription
- [your subscription ends this month|we cancelled your plan]. A confirmation follows.
invoice_copy
- [the invoice is attached|we sent the invoice again]. Tell us if the company name is wrong.
payment_failed
- [your bank declined the payment|the payment did not reach us]. Please try another card.
change_address
- [we updated your address|the new address is saved]. The parcel follows it.
technical_bug
- [we can reproduce the error|our developers are on it]. A fix is planned for {day}.
general_question
- [thanks for asking|good question]. Our help page has the details, and we reply in full by {day}.
""")
